"""A client that is alone inserts and rings in one round trip, by two transactions."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

import quarterjack
from quarterjack import NewJob, Unique, enqueue_many
from quarterjack.database import Connection
from quarterjack.inserting import MANY
from quarterjack.model import Enqueued
from tests.conftest import TestDatabase
from tests.waiting import until

WAITS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')"
QUIET = "SELECT current_setting('quarterjack.rings_itself')"
ARGS = {"text": "a'\"\\$1", "deep": [1, {"b": None}]}


@asynccontextmanager
async def asked(connection: Connection) -> AsyncIterator[list[str]]:
    """Collect the first words of what is asked on a connection."""
    words: list[str] = []
    with connection.query_logger(lambda record: words.append(record.query.split()[0])):
        yield words


async def test_a_plain_job_takes_one_statement(database: TestDatabase) -> None:
    async with database.pool.acquire() as connection, asked(connection) as words:
        made = await quarterjack.enqueue(
            connection, "w", ARGS, queue="q", tags=["a", "b"], meta={"b": 1}, priority=3
        )

    assert words == ["CALL"]
    row = await database.row(
        "SELECT *, scheduled_at <= timezone('UTC', now()) AS due FROM oban_jobs WHERE id = $1",
        made.id,
    )
    assert (row["state"], row["worker"], row["queue"], row["args"]) == ("available", "w", "q", ARGS)
    assert (row["tags"], row["meta"], row["priority"], row["max_attempts"]) == (
        ["a", "b"], {"b": 1}, 3, 20
    )  # fmt: skip
    assert row["due"]


@pytest.mark.parametrize(
    "new",
    [
        [NewJob(worker="w")],
        [NewJob(worker="w"), NewJob(worker="w", tags=["a", "b"])],
        [NewJob(worker="w", scheduled_at=datetime.now(UTC) + timedelta(hours=1))],
        [NewJob(worker="w", queue=str(number)) for number in range(MANY - 1)],
    ],
    ids=["one", "two", "scheduled", "some"],
)
async def test_so_do_some(database: TestDatabase, new: Sequence[NewJob]) -> None:
    async with database.pool.acquire() as connection:
        await enqueue_many(connection, [NewJob(worker="first")] * 2)
        async with asked(connection) as words:
            results = await enqueue_many(connection, new)
        left_behind = await connection.fetchval(QUIET)

    assert (words, left_behind) == (["CALL"], "")
    rows = await database.pool.fetch(
        "SELECT id, queue, tags FROM oban_jobs WHERE worker = 'w' ORDER BY id"
    )
    assert [row["id"] for row in rows] == [result.id for result in results]
    assert [(row["queue"], row["tags"]) for row in rows] == [
        (each.queue, list(each.tags)) for each in new
    ]


async def test_a_unique_one_goes_its_own_way(database: TestDatabase) -> None:
    async with database.pool.acquire() as connection, asked(connection) as words:
        await quarterjack.enqueue(connection, "w", unique=Unique())

    assert "CALL" not in words


@pytest.mark.parametrize("number", [1, 2])
async def test_while_it_waits_for_a_standby_others_may_notify(
    own_server_database: TestDatabase, number: int
) -> None:
    database, new = own_server_database, [NewJob(worker="w")] * number
    async with asyncpg.create_pool(database.url, min_size=1) as administering:

        async def standby(name: str) -> None:
            await administering.execute("SET synchronous_commit = local")
            await administering.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            await administering.execute("SELECT pg_reload_conf()")

        async def one_waits() -> bool:
            """Those that commit before the server has learned of the standby do not."""
            if not enqueueing or enqueueing[-1].done():
                enqueueing.append(asyncio.create_task(enqueue_many(database.pool, new)))
            waits: bool = await administering.fetchval(WAITS)
            return waits

        enqueueing: list[asyncio.Task[list[Enqueued]]] = []
        await standby("nobody")
        await until(one_waits)
        async with asyncio.timeout(5):
            await administering.execute("NOTIFY somebody")
        assert not enqueueing[-1].done()

        await standby("")
        made = [each.id for task in enqueueing for each in await task]
    assert await database.pool.fetchval("SELECT array_agg(id ORDER BY id) FROM oban_jobs") == made
