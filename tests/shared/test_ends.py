"""The ends of jobs that others wait for: whoever ends them and whenever, they are seen."""

from datetime import timedelta

import pytest

from quarterjack.queries import prune, settling, upkeep
from tests.conftest import TestDatabase
from tests.flows import ALWAYS, end, enqueue, settle, states
from tests.waiting import until


async def test_every_way_to_end_counts(database: TestDatabase) -> None:
    """An admin's cancel, a deletion of many, a pruner, the rescue of an orphan and one without attempts."""
    by = {name: await enqueue(database) for name in ("admin", "bulk", "pruned", "orphan", "spent")}
    children = {
        name: await enqueue(database, after=[id], even_if=ALWAYS) for name, id in by.items()
    }
    pool = database.pool
    await settle(pool)

    await pool.execute(
        "UPDATE oban_jobs SET state = 'cancelled', cancelled_at = timezone('UTC', now()) WHERE id = $1",
        by["admin"],
    )
    await pool.execute("DELETE FROM oban_jobs WHERE id = $1", by["bulk"])
    await pool.execute(
        """
        UPDATE oban_jobs
        SET state = 'completed', completed_at = timezone('UTC', now()) - interval '1 day'
        WHERE id = $1
        """,
        by["pruned"],
    )
    assert await prune.completed(pool, age=timedelta(hours=1), limit=10) == 1
    await pool.execute(
        """
        UPDATE oban_jobs
        SET state = 'executing', attempt = 1, max_attempts = 1, attempted_by = '{n,u,x}'
        WHERE id = $1
        """,
        by["orphan"],
    )
    assert [job.state for job in await upkeep.rescue(pool, limit=10)] == ["discarded"]
    await pool.execute("UPDATE oban_jobs SET attempt = max_attempts WHERE id = $1", by["spent"])
    assert await upkeep.discard_exhausted(pool) == [by["spent"]]
    await settle(pool)

    edges = await pool.fetch("SELECT parent, outcome FROM qj_edges")
    outcomes = {edge["parent"]: edge["outcome"] for edge in edges}
    assert {name: outcomes[id] for name, id in by.items()} == {
        "admin": "cancelled",
        "bulk": "deleted",
        "pruned": "completed",
        "orphan": "discarded",
        "spent": "discarded",
    }
    assert set(await states(pool, *children.values())) == {"available"}


@pytest.mark.parametrize("marked", [True, False])
async def test_a_parent_that_was_retried_before_anybody_looked_is_waited_for(
    database: TestDatabase, marked: bool
) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    if marked:
        await settle(database.pool)
    await end(database.pool, parent, state="discarded")
    await end(database.pool, parent, state="available")
    await settle(database.pool)

    assert await states(database.pool, child) == ["suspended"]

    await end(database.pool, parent)
    await settle(database.pool)
    await end(database.pool, parent, state="available")
    await end(database.pool, parent, state="cancelled")
    await settle(database.pool)

    assert await states(database.pool, child) == ["available"]


async def test_an_end_before_the_first_look_is_seen_then(database: TestDatabase) -> None:
    """Nobody has marked the parents yet, so no trigger notes their ends."""
    ended, pruned = await enqueue(database), await enqueue(database)
    after = await enqueue(database, after=[ended])
    late = await enqueue(database, after=[pruned])
    await end(database.pool, ended, pruned)
    again = await enqueue(database, after=[pruned])
    await database.pool.execute("DELETE FROM oban_jobs WHERE id = $1", pruned)
    await settle(database.pool)

    assert await states(database.pool, after, late, again) == ["available"] * 3


async def test_an_end_that_was_in_vain_is_not_forgotten_by_a_later_one(
    database: TestDatabase,
) -> None:
    failed, done = await enqueue(database), await enqueue(database)
    child = await enqueue(database, after=[failed, done])
    await settle(database.pool)
    for parent, state in ((failed, "discarded"), (done, "completed")):
        await end(database.pool, parent, state=state)
        await settle(database.pool)

        assert await states(database.pool, child) == ["cancelled"]


async def test_of_the_ends_of_a_job_that_is_gone_the_last_counts(database: TestDatabase) -> None:
    """Also where others have begun to wait for it since, and have it looked at."""
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await settle(database.pool)
    for state in ("discarded", "available", "completed"):
        await end(database.pool, parent, state=state)
    again = await enqueue(database, after=[parent])
    await database.pool.execute("DELETE FROM oban_jobs WHERE id = $1", parent)
    await database.pool.execute("INSERT INTO qj_ended (job_id) VALUES ($1)", parent)
    await settle(database.pool)

    assert await states(database.pool, child, again) == ["available"] * 2


async def test_a_parent_whose_meta_takes_no_mark_is_not_waited_for_in_haste(
    database: TestDatabase,
) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await database.pool.execute("UPDATE oban_jobs SET meta = '[1]' WHERE id = $1", parent)

    assert await settle(database.pool) == 2
    meta = await database.pool.fetchval("SELECT meta FROM oban_jobs WHERE id = $1", parent)
    await end(database.pool, parent)
    await settling.mend(database.pool, beyond=0, limit=10)
    await settle(database.pool)

    assert meta == [1]
    assert await states(database.pool, child) == ["available"]


async def test_an_end_that_no_trigger_noted_is_found(database: TestDatabase) -> None:
    unmarked, emptied = await enqueue(database), await enqueue(database)
    children = [await enqueue(database, after=[id]) for id in (unmarked, emptied)]
    running = await enqueue(database)
    waiting = await enqueue(database, after=[running])
    pool = database.pool
    await settle(pool)
    await pool.execute("UPDATE oban_jobs SET meta = '{}' WHERE id <> $1", running)
    await end(pool, unmarked)
    await pool.execute("DELETE FROM oban_jobs WHERE id = $1", emptied)
    await pool.execute("TRUNCATE qj_settling, qj_ended")

    last, noted = await settling.mend(pool, beyond=0, limit=2)
    again = await settling.mend(pool, beyond=last, limit=2)
    await settle(pool)

    assert (last, noted, again) == (emptied, 2, (running, 0))
    assert await settling.mend(pool, beyond=running, limit=2) == (0, 0)
    assert await states(pool, *children, waiting) == ["available", "cancelled", "suspended"]


async def test_foreign_programs_without_rights_of_ours_end_jobs(database: TestDatabase) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await settle(database.pool)
    async with database.pool.acquire() as connection:
        try:
            await connection.execute(
                """
                CREATE ROLE stranger;
                GRANT SELECT, UPDATE ON oban_jobs TO stranger;
                SET ROLE stranger;
                CREATE TEMP TABLE qj_ended (job_id bigint, outcome text)
                """
            )
            await end(connection, parent)
        finally:
            await connection.execute("RESET ROLE; DROP OWNED BY stranger; DROP ROLE stranger")
    await settle(database.pool)

    assert await states(database.pool, child) == ["available"]


async def test_an_end_rings_the_leader(database: TestDatabase) -> None:
    parent = await enqueue(database)
    await enqueue(database, after=[parent])
    await settle(database.pool)
    async with database.pool.acquire() as connection:
        heard: list[object] = []

        def heard_one(*notification: object) -> None:
            heard.append(notification[3])

        await connection.add_listener("public.qj_ended", heard_one)
        await end(database.pool, parent)
        await until(lambda: connection.fetchval("SELECT $1::integer > 0", len(heard)))
        await connection.remove_listener("public.qj_ended", heard_one)
    assert heard == ["{}"]
