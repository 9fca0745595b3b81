"""Rates hold whoever claims, and one that is changed holds from then on."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from quarterjack.queries import limits
from quarterjack.queries.limits import Limits
from quarterjack_scheduler import retention
from quarterjack_scheduler.upkeep import Pruner
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.limited import BLOCKED, HALT, claim, enqueue, limit
from tests.worker.test_claims import producer


@pytest.mark.parametrize("partition_by", [None, "tenant"])
async def test_a_rate_lets_a_burst_start_and_then_so_many_in_a_time(
    database: TestDatabase, partition_by: str | None
) -> None:
    await limit(
        database,
        Limits(
            rate_limit=60,
            rate_period=timedelta(hours=1),
            rate_burst=5,
            partition_by=partition_by,
        ),
    )
    for tenant in ("a", "b"):
        await enqueue(database, tenant, 20)
    uuid = await producer(database)

    async def claimed() -> int:
        return len(await claim(database, uuid, 100))

    parts = 2 if partition_by else 1
    assert [await claimed(), await claimed()] == [5 * parts, 0]
    await database.pool.execute("UPDATE qj_rates SET free_at = free_at - interval '2 minutes 1 s'")
    assert [await claimed(), await claimed()] == [2 * parts, 0]
    await database.pool.execute("UPDATE qj_rates SET free_at = free_at - interval '1 day'")
    assert [await claimed(), await claimed()] == [5 * parts, 0]


async def test_a_rate_waits_for_a_burst_of_its_own_not_for_the_period_of_an_earlier_one(
    database: TestDatabase,
) -> None:
    await limit(database, Limits(rate_limit=1, rate_period=timedelta(days=31)))
    await enqueue(database, "a", 20)
    uuid = await producer(database)
    assert len(await claim(database, uuid, 10)) == 1

    await limit(database, Limits(rate_limit=4, rate_period=timedelta(hours=1), rate_burst=2))

    assert await claim(database, uuid, 10) == []
    await database.pool.execute("UPDATE qj_rates SET free_at = free_at - interval '30 minutes'")
    assert len(await claim(database, uuid, 10)) == 2


async def test_a_rate_waits_for_a_burst_also_when_the_databases_clock_was_set_back(
    database: TestDatabase,
) -> None:
    await limit(database, Limits(rate_limit=2, rate_period=timedelta(hours=1)))
    await enqueue(database, "a", 20)
    uuid = await producer(database)
    assert len(await claim(database, uuid, 10)) == 2
    await database.pool.execute("UPDATE qj_rates SET free_at = free_at + interval '1 day'")
    await database.pool.execute("INSERT INTO qj_rates VALUES ('default', 'gone', 'epoch')")

    async with database.pool.acquire() as db:
        await Pruner(retention.from_environment(), own_traces=False).prune(db)

    assert await database.pool.fetchval("SELECT count(*) FROM qj_rates") == 1
    assert await claim(database, uuid, 10) == []
    await database.pool.execute("UPDATE qj_rates SET free_at = free_at - interval '1 hour'")
    assert len(await claim(database, uuid, 10)) == 2


async def test_to_forgive_costs_no_start(database: TestDatabase) -> None:
    """It is done twice a minute."""
    await limit(database, Limits(rate_limit=2, rate_period=timedelta(hours=1)))
    await enqueue(database, "a", 20)
    uuid = await producer(database)
    assert len(await claim(database, uuid, 1)) == 1

    await limits.forgive(database.pool)

    assert len(await claim(database, uuid, 10)) == 1


async def test_a_claim_that_read_an_earlier_rate_takes_nothing_by_it(
    database: TestDatabase,
) -> None:
    await limit(database, Limits(rate_limit=5, rate_period=timedelta(days=31)))
    await enqueue(database, "a", 20)
    await database.pool.execute(HALT)
    uuid = await producer(database)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        early = asyncio.create_task(claim(database, uuid, 10))
        await until(lambda: database.pool.fetchval(BLOCKED))
        faster = Limits(rate_limit=2, rate_period=timedelta(hours=1))
        await limits.limit(connection, "default", faster, by="ana", reason="x")

    assert await early == []
    assert len(await claim(database, uuid, 10)) == 2


async def test_a_rate_of_more_than_a_job_in_a_microsecond_can_be_claimed_by(
    database: TestDatabase,
) -> None:
    """An error would stop the claims of all queues of a worker."""
    await limit(database, Limits(rate_limit=1_000_000, rate_period=timedelta(milliseconds=1)))
    await enqueue(database, "a", 10)
    uuid = await producer(database)
    owed = "INSERT INTO qj_rates VALUES ('default', '', clock_timestamp() + interval '1 hour')"
    await database.pool.execute(owed)

    assert await claim(database, uuid, 10) == []
    await database.pool.execute("DELETE FROM qj_rates")
    assert len(await claim(database, uuid, 10)) == 10


async def test_parts_of_an_earlier_limit_are_passed_over(database: TestDatabase) -> None:
    hourly = Limits(rate_limit=2, rate_period=timedelta(hours=1), partition_by="tenant")
    await limit(database, hourly)
    for tenant in ("a", "b"):
        await enqueue(database, tenant, 5)
    uuid = await producer(database)
    assert len(await claim(database, uuid, 10)) == 4

    await limit(database, replace(hourly, partition_by=None))

    assert len(await claim(database, uuid, 10)) == 2
    assert await claim(database, uuid, 10) == []


@pytest.mark.parametrize(
    "limits",
    [
        *("global_limit = 0", "global_limit = -5", "rate_limit = 0, rate_period = '1 s'"),
        *("rate_limit = 1, rate_period = '0 s'", "rate_limit = 1", "rate_period = '1 s'"),
        *("rate_limit = 1, rate_period = '300000 years'", "rate_burst = 5"),
        "rate_limit = 1, rate_period = '1 s', rate_burst = 0",
    ],
)
async def test_limits_that_no_claim_can_keep_cannot_be_written(
    database: TestDatabase, limits: str
) -> None:
    """They would stop the claims of all queues of a worker."""
    await database.pool.execute("INSERT INTO qj_queues (queue, changed_by) VALUES ('q', 'ana')")

    with pytest.raises(asyncpg.CheckViolationError):
        await database.pool.execute(f"UPDATE qj_queues SET {limits}")
