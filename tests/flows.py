"""Jobs that wait for others, in tests: enqueue, end some, settle, and look at what became of the rest."""

import quarterjack
from quarterjack.database import Database
from quarterjack.queries import settling
from tests.conftest import TestDatabase

ALWAYS = ("cancelled", "discarded", "deleted")


async def enqueue(database: TestDatabase, **options: object) -> int:
    """Enqueue one and give its id."""
    made = await quarterjack.enqueue(database.pool, "w", **options)  # type: ignore[arg-type]
    assert made.id is not None
    return made.id


async def end(db: Database, *ids: int, state: str = "completed") -> None:
    """End jobs as any program may."""
    await db.execute(
        "UPDATE oban_jobs SET state = $2::text::oban_job_state WHERE id = ANY ($1::bigint[])",
        list(ids),
        state,
    )


async def settle(db: Database, *, size: int = 1_000) -> int:
    """Settle until nothing is left that can be settled; how many statements that took."""
    statements = 1
    while (
        done := await settling.settle(db, lines=size, edges=size)
    ).edges or done.lines > done.left:
        statements += 1
    return statements


async def states(db: Database, *ids: int | None) -> list[str]:
    """Give the states of jobs; `gone` for those that are not there."""
    wanted = [id for id in ids if id is not None]
    rows = await db.fetch(
        "SELECT id, state::text FROM oban_jobs WHERE id = ANY ($1::bigint[])", wanted
    )
    found = {row["id"]: row["state"] for row in rows}
    return [found.get(id, "gone") for id in wanted]
