"""Many jobs are copied, and are what they would be if each were inserted by itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.client import MANY
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
        )
        for place in range(MANY)
    ]


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


async def test_many_jobs_with_tags_keep_them(database: TestDatabase) -> None:
    many = [NewJob(worker="w", tags=["a"] if place == 7 else []) for place in range(MANY)]

    await quarterjack.enqueue_many(database.pool, many)

    tags = await database.pool.fetch("SELECT tags FROM oban_jobs ORDER BY id")
    assert [place for place, row in enumerate(tags) if row["tags"]] == [7]


def _without(row: asyncpg.Record, *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
