"""A claim within limits takes what stands in the queue, and all that it may."""

import asyncio
import secrets
from collections import Counter
from datetime import timedelta

import pytest

from quarterjack.queries import limited_claims
from quarterjack.queries.claims import Want
from quarterjack.queries.limits import Limits
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.limited import BLOCKED, HALT, claim, enqueue, limit
from tests.worker.test_claims import producer

CLAIMS = "SELECT claims FROM qj_queues WHERE node = ''"
SPOIL = """
UPDATE oban_jobs SET state = 'cancelled' WHERE id = 2;
UPDATE oban_jobs SET queue = 'other' WHERE id = 3;
UPDATE oban_jobs SET attempt = max_attempts WHERE id = 4
"""


@pytest.mark.parametrize("change", ["state = 'cancelled'", "queue = 'other'"])
async def test_a_job_that_left_the_queue_since_the_snapshot_is_not_taken(
    database: TestDatabase, change: str
) -> None:
    await limit(database, Limits(global_limit=3))
    await enqueue(database, "a", 1)
    await database.pool.execute(HALT)
    uuid = await producer(database)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        claiming = asyncio.create_task(claim(database, uuid, 3))
        await until(lambda: database.pool.fetchval(BLOCKED))
        await database.pool.execute(f"UPDATE oban_jobs SET {change}")

    assert await claiming == []
    assert await database.pool.fetchval(f"SELECT bool_and({change}) FROM oban_jobs")


@pytest.mark.parametrize("far", [[], [1, 2, 3, 4, 6]])
async def test_jobs_that_cannot_run_take_the_place_of_none(
    database: TestDatabase, far: list[int]
) -> None:
    """Nor do those that are seen twice: among the first, and among those that wait far behind."""
    await limit(database, Limits(global_limit=3, partition_by="tenant"))
    await enqueue(database, "a", 9)
    await database.pool.execute(SPOIL)
    want = Want(
        queue="default", producer=await producer(database), demand=10, limited=True, far=far
    )

    jobs, look = await limited_claims.claim_limited(database.pool, want=want, node="n", nonce="x")

    assert sorted(job.id or 0 for job in jobs) == [1, 5, 6]
    assert look.held_back


async def test_a_value_that_no_index_takes_is_counted_as_well(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=2, partition_by="tenant"))
    await enqueue(database, secrets.token_hex(5_000), 5)
    uuid = await producer(database)

    assert [len(await claim(database, uuid, 1)) for _ in range(3)] == [1, 1, 0]


async def test_what_is_asked_of_one_node_is_no_limit(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=2))
    await database.pool.execute(
        "INSERT INTO qj_queues (queue, node, paused, changed_by) VALUES ('default', 'n', false, 'ana')"
    )
    await enqueue(database, "a", 5)
    uuid = await producer(database)

    assert [len(await claim(database, uuid, 10)) for _ in range(2)] == [2, 0]


async def test_who_claims_all_that_waits_is_held_back_by_nothing(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=5))
    await enqueue(database, "a", 3)
    want = Want(queue="default", producer=await producer(database), demand=9, limited=True)

    jobs, look = await limited_claims.claim_limited(database.pool, want=want, node="n", nonce="x")

    assert (len(jobs), look.held_back) == (3, False)


async def test_a_claim_that_finds_nothing_writes_nothing(database: TestDatabase) -> None:
    """Workers look many times a second while a limit holds jobs back."""
    await limit(database, Limits(global_limit=1))
    await enqueue(database, "a", 3)
    uuid = await producer(database)
    assert len(await claim(database, uuid, 3)) == 1
    before = await database.pool.fetchval(CLAIMS)

    assert await claim(database, uuid, 3) == []

    assert await database.pool.fetchval(CLAIMS) == before


async def test_a_value_with_little_room_takes_none_from_another(database: TestDatabase) -> None:
    await limit(
        database,
        Limits(rate_limit=5, rate_period=timedelta(hours=1), rate_burst=5, partition_by="tenant"),
    )
    uuid = await producer(database)
    await enqueue(database, "a", 4)
    assert len(await claim(database, uuid, 10)) == 4
    await database.pool.execute("UPDATE oban_jobs SET state = 'completed'")
    await enqueue(database, "a", 9)
    await enqueue(database, "b", 9)

    found = await claim(database, uuid, 10)

    assert Counter(job.args["tenant"] for job in found) == {"a": 1, "b": 5}
