"""Many jobs are copied, and are what they would be if each were inserted by itself."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

import quarterjack
from quarterjack import JobInvalid, NewJob, Unique
from quarterjack.inserting import CHUNK, MANY, SLICE
from tests.conftest import TestDatabase

ROWS = """
SELECT
  state::text, worker, queue, args, meta, tags, priority, max_attempts, attempt, errors, attempted_by, inserted_at,
  CASE WHEN state = 'scheduled' THEN scheduled_at END AS scheduled_at, inserted_at = scheduled_at AS at_once
FROM oban_jobs
ORDER BY id
"""
NAMES = [
    "w",
    "back\\slash",
    "a\tb\nc\rd",
    "\\.",
    "\\N",
    "čšž 🕰",
    "'; DROP TABLE oban_jobs; --",
    " ",
]
VALUES: Sequence[Any] = [
    *NAMES, "", '"', "\\n", "\\u0041", "\x01\x7f", 2**70, -1.5e-300, None, True, [[], {}, [{"a": "\\"}]],
]  # fmt: skip
IDENTITY = """
ALTER SEQUENCE oban_jobs_id_seq OWNED BY NONE;
ALTER TABLE oban_jobs ALTER id DROP DEFAULT;
ALTER TABLE oban_jobs ALTER id ADD GENERATED ALWAYS AS IDENTITY;
ALTER SEQUENCE oban_jobs_id_seq OWNED BY NONE;
CREATE ROLE only_inserts;
GRANT INSERT, SELECT ON oban_jobs TO only_inserts;
SET LOCAL ROLE only_inserts;
"""
TAGS = [*NAMES, "{", "}", "a,b", '"', '\\"', "null", "'", "{}"]
LONG = CHUNK * 2 + 100
TIMES = [None, datetime(1, 1, 3, tzinfo=UTC), datetime(2030, 1, 1, 12, 30, 1, 5, tzinfo=UTC)]


def awkward() -> list[NewJob]:
    return [
        NewJob(
            worker=NAMES[place % len(NAMES)],
            queue=NAMES[(place + 3) % len(NAMES)],
            args={"n": place, "value": VALUES[place % len(VALUES)]},
            meta={NAMES[place % 5]: VALUES[-place % len(VALUES)]},
            scheduled_at=TIMES[place % len(TIMES)],
            priority=place % 10,
            max_attempts=place + 1,
            tags=TAGS[place % len(TAGS) :] if place % 3 else (),
        )
        for place in range(MANY)
    ]


def bad_at(bad: int) -> Iterator[NewJob]:
    return (NewJob(worker="w", priority=10 if place == bad else 0) for place in range(LONG))


async def test_copied_jobs_are_as_inserted_ones(database: TestDatabase) -> None:
    many = awkward()
    copied = await quarterjack.enqueue_many(database.pool, many)
    rows = await database.pool.fetch(ROWS)
    await database.pool.execute("TRUNCATE oban_jobs")
    for start in range(0, MANY, MANY // 2):
        await quarterjack.enqueue_many(database.pool, many[start : start + MANY // 2])
    inserted = await database.pool.fetch(ROWS)

    assert [each.id for each in copied] == list(range(1, MANY + 1))
    different = ("inserted_at", "at_once")
    assert [_without(row, *different) for row in rows] == [
        _without(row, *different) for row in inserted
    ]
    assert all(row["at_once"] for row in rows if row["state"] == "available")
    assert len({row["inserted_at"] for row in rows}) == 1


async def test_of_copied_jobs_all_or_none_are_there(database: TestDatabase) -> None:
    await database.pool.execute(
        "ALTER TABLE oban_jobs ADD CONSTRAINT no_last CHECK (args ->> 'n' <> '499')"
    )

    with pytest.raises(asyncpg.CheckViolationError):
        await quarterjack.enqueue_many(database.pool, awkward())

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 0
    assert (await quarterjack.enqueue(database.pool, "next")).id


async def test_a_transaction_with_copied_jobs_may_be_rolled_back(database: TestDatabase) -> None:
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await quarterjack.enqueue_many(connection, awkward())
        assert await connection.fetchval("SELECT count(*) FROM oban_jobs") == MANY
        await transaction.rollback()

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 0


async def test_a_transaction_may_have_been_begun_by_hand(database: TestDatabase) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("BEGIN")
        await quarterjack.enqueue_many(connection, awkward())
        await connection.execute("COMMIT")

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == MANY


async def test_a_role_that_may_insert_may_insert_many(database: TestDatabase) -> None:
    """An identity column, as oban-py makes it, asks for no right to its sequence."""
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(IDENTITY)

        made = await quarterjack.enqueue_many(connection, awkward())

        assert [each.id for each in made] == list(range(1, MANY + 1))
        assert await connection.fetchval("SELECT count(*) FROM oban_jobs") == MANY
        await transaction.rollback()


async def test_more_than_a_chunk_arrive_in_their_order(database: TestDatabase) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    many = (NewJob(worker="w", queue=str(n // CHUNK), args={"n": n}) for n in range(LONG))

    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))

    made = await quarterjack.enqueue_many(database.pool, many)

    rows = await database.pool.fetch("SELECT id, (args -> 'n')::integer AS n FROM oban_jobs")
    assert {row["id"]: row["n"] for row in rows} == {each.id: n for n, each in enumerate(made)}
    assert len(made) == LONG
    async with asyncio.timeout(10):
        assert {json.loads(await heard.get())["queue"] for _ in range(3)} == {"0", "1", "2"}
    await ear.close()


@pytest.mark.parametrize("at", [CHUNK - 1, CHUNK, LONG - 1])
async def test_one_bad_job_late_leaves_none(database: TestDatabase, at: int) -> None:
    with pytest.raises(JobInvalid, match="priority is 10"):
        await quarterjack.enqueue_many(database.pool, bad_at(at))

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 0
    assert (await quarterjack.enqueue(database.pool, "next")).id


async def test_a_bad_job_does_not_end_the_transaction_it_was_for(database: TestDatabase) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        with pytest.raises(JobInvalid, match="priority is 10"):
            await quarterjack.enqueue_many(connection, bad_at(LONG - 1))
        await quarterjack.enqueue(connection, "instead")

    assert await database.pool.fetchval("SELECT array_agg(worker) FROM oban_jobs") == ["instead"]


async def test_others_may_come_late_among_many(database: TestDatabase) -> None:
    first = await quarterjack.enqueue(database.pool, "first")
    assert first.id
    kinds: dict[int, dict[str, Any]] = {
        CHUNK + 7: {"unique": Unique()},
        CHUNK + 9: {"unique": Unique()},
        CHUNK * 2 + 1: {"after": [first.id]},
    }

    made = await quarterjack.enqueue_many(
        database.pool, (NewJob(worker="w", **kinds.get(place, {})) for place in range(LONG))
    )

    assert [place for place, each in enumerate(made) if each.conflict] == [CHUNK + 9]
    assert made[CHUNK + 7].id == made[CHUNK + 9].id
    found = await database.pool.fetch("SELECT id FROM oban_jobs WHERE state = 'suspended'")
    assert [row["id"] for row in found] == [made[CHUNK * 2 + 1].id]
    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == LONG


async def test_while_many_are_made_others_have_their_turn(database: TestDatabase) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    seen: list[int] = []

    def making() -> Iterator[NewJob]:
        for _ in range(LONG):
            seen.append(turns)
            yield NewJob(worker="w")

    await quarterjack.enqueue_many(database.pool, making())
    beside.cancel()

    assert len(set(seen)) > (LONG - CHUNK) // SLICE


def _without(row: asyncpg.Record, *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
