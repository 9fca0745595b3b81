"""Limits over all nodes hold whoever claims, and are shared fairly."""

import asyncio
import secrets
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.queries import beyond, claims, limited_claims
from quarterjack.queries.beyond import EACH
from quarterjack.queries.claims import Want
from quarterjack.queries.limited_claims import SPARE, WINDOW
from quarterjack.queries.limits import Limits
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.waiting import until
from tests.worker.limited import BLOCKED, HALT, claim, enqueue, limit
from tests.worker.test_claims import producer

WITNESS = """
CREATE TABLE seen (running bigint, tenant text);
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seen
  SELECT count(*), args ->> 'tenant' FROM oban_jobs WHERE state = 'executing' GROUP BY 2;
  RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER UPDATE ON oban_jobs FOR EACH STATEMENT EXECUTE FUNCTION witness();
"""
MOST = "SELECT coalesce(max(running), 0) FROM seen"


@pytest.mark.parametrize("partition_by", [None, "tenant"])
async def test_many_claims_at_once_stay_within_the_limit(
    database: TestDatabase, partition_by: str | None
) -> None:
    await database.pool.execute(WITNESS)
    await limit(database, Limits(global_limit=3, partition_by=partition_by))
    for tenant in ("a", "b"):
        await enqueue(database, tenant, 100)
    uuids = [await producer(database) for _ in range(8)]
    done: set[int] = set()

    async def work(uuid: UUID) -> None:
        while len(done) < 200:
            for job in await claim(database, uuid, 2):
                assert job.id not in done
                await database.pool.execute(
                    "UPDATE oban_jobs SET state = 'completed' WHERE id = $1", job.id
                )
                done.add(job.id)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(uuid) for uuid in uuids))

    if partition_by:
        assert await database.pool.fetchval(MOST) == 3
    else:
        together = "SELECT max(n) FROM (SELECT sum(running) AS n FROM seen GROUP BY xmin) AS s"
        assert await database.pool.fetchval(together) == 3


async def test_a_claim_that_counted_before_anothers_takes_nothing(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=3))
    await quarterjack.enqueue_many(database.pool, [NewJob(worker="count", priority=5)] * 3)
    await database.pool.execute(HALT)
    early, late = await producer(database), await producer(database)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        counted = asyncio.create_task(claim(database, early, 3))
        await until(lambda: database.pool.fetchval(BLOCKED))
        await quarterjack.enqueue_many(database.pool, [NewJob(worker="count")] * 3)
        want = Want(queue="default", producer=late, demand=3, limited=True)
        found, *_ = await limited_claims.claim_limited(connection, want=want, node="n", nonce="x")

    assert (len(found), await counted) == (3, [])
    assert len(await claims.held_by(database.pool, producers=[early, late])) == 3


async def test_a_claim_waits_for_nobody_who_edits_the_limits(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=3))
    await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="count"), NewJob(worker="count", queue="other")]
    )
    limited, other = await producer(database), await producer(database)
    wants = [
        Want(queue="default", producer=limited, demand=1, limited=True),
        Want(queue="other", producer=other, demand=1),
    ]
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE qj_queues SET global_limit = 2")

        async with asyncio.timeout(5):
            found = await limited_claims.claim(database.pool, wants=wants, node="n", nonce="x")

    assert [job.queue for job in found.jobs] == ["other"]
    assert found.looks["default"].held_back


@pytest.mark.parametrize("partition_by", [None, "tenant"])
async def test_a_job_that_somebody_holds_is_passed_by(
    database: TestDatabase, partition_by: str | None
) -> None:
    await limit(database, Limits(global_limit=2, partition_by=partition_by))
    await enqueue(database, "a", SPARE + 10)
    uuid = await producer(database)
    async with database.pool.acquire() as connection, connection.transaction():
        first = "SELECT id FROM oban_jobs ORDER BY id LIMIT $1 FOR UPDATE"
        held = {row["id"] for row in await connection.fetch(first, SPARE)}

        found = await claim(database, uuid, 5)

    assert len(found) == 2
    assert held.isdisjoint(job.id for job in found)
    assert await claim(database, uuid, 5) == []


async def test_spare_jobs_of_a_value_exceed_its_limit_by_none(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=2, partition_by="tenant"))
    await enqueue(database, "a", 5)
    await enqueue(database, "b", 5)
    uuid = await producer(database)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM oban_jobs WHERE args ->> 'tenant' = 'b' ORDER BY id LIMIT 2 FOR UPDATE"
        )

        found = await claim(database, uuid, 10)

    assert Counter(job.args["tenant"] for job in found) == {"a": 2, "b": 1}


async def test_a_value_that_no_index_takes_is_a_partition_like_others(
    database: TestDatabase,
) -> None:
    a_minute = timedelta(minutes=1)
    await limit(database, Limits(rate_limit=1, rate_period=a_minute, partition_by="tenant"))
    for tenant in (secrets.token_hex(5_000), "other"):
        await enqueue(database, tenant, 2)

    found = await claim(database, await producer(database), 10)

    assert len(found) == 2


async def test_partitions_take_turns_though_one_has_a_backlog(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=4, partition_by="tenant"))
    await enqueue(database, "large", 6_000)
    for tenant in ("b", "c"):
        await enqueue(database, tenant, 10)
    uuid = await producer(database)

    first = await claim(database, uuid, 3)
    rest = await claim(database, uuid, 100)

    assert len(first) == 3
    assert Counter(job.args["tenant"] for job in first + rest) == {"large": 4}
    rest += await claim(database, uuid, 5)
    rest += await claim(database, uuid, 100)
    assert Counter(job.args["tenant"] for job in first + rest) == {"large": 4, "b": 4, "c": 4}


async def test_a_value_far_behind_the_backlog_of_another_is_found_and_claimed(
    database: TestDatabase,
) -> None:
    await limit(database, Limits(global_limit=50, partition_by="tenant"))
    await enqueue(database, "large", 2 * WINDOW)
    await enqueue(database, "small", 3)
    await enqueue(database, "large", WINDOW)
    uuid = await producer(database)
    blind = Want(queue="default", producer=uuid, demand=4, limited=True)

    found, saw = await limited_claims.claim_limited(database.pool, want=blind, node="n", nonce="x")
    far = await beyond.first_of_each(database.pool, queue="default")
    seeing = replace(blind, far=far)
    more, _ = await limited_claims.claim_limited(database.pool, want=seeing, node="n", nonce="x")

    assert (Counter(job.args["tenant"] for job in found), saw.crowded) == (
        {"large": 4},
        True,
    )
    assert len(far) == EACH + 3
    assert Counter(job.args["tenant"] for job in more) == {"small": 3, "large": 1}
    await database.pool.execute("DELETE FROM oban_jobs WHERE args ->> 'tenant' = 'large'")
    last, saw = await limited_claims.claim_limited(database.pool, want=seeing, node="n", nonce="x")
    assert (last, saw.held_back, saw.crowded) == ([], False, False)


async def test_a_worker_runs_the_few_jobs_of_one_before_the_many_of_another_are_done(
    database: TestDatabase,
) -> None:
    await limit(database, Limits(global_limit=50, partition_by="tenant"))
    await enqueue(database, "large", 5 * WINDOW)
    await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="in_thread", args={"n": 1, "tenant": "small"})] * 5
    )
    async with cluster(database) as running:
        await running.worker(import_="tests.jobs", queues="default=3")
        done = "SELECT count(*) = 5 FROM oban_jobs WHERE state = 'completed' AND args ->> 'tenant' = 'small'"
        await until(lambda: database.pool.fetchval(done), within=60)

    left = (
        "SELECT count(*) FROM oban_jobs WHERE state = 'available' AND args ->> 'tenant' = 'large'"
    )
    assert await database.pool.fetchval(left) > WINDOW


async def test_within_reach_the_least_busy_partition_goes_first(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=10, partition_by="tenant"))
    await enqueue(database, "a", 20)
    await enqueue(database, "b", 20)
    uuid = await producer(database)

    first = await claim(database, uuid, 4)

    assert Counter(job.args["tenant"] for job in first) == {"a": 2, "b": 2}


async def test_a_limit_lifted_or_lowered_holds_for_the_next_claim(database: TestDatabase) -> None:
    await limit(database, Limits(global_limit=2))
    await enqueue(database, "a", 20)
    uuid = await producer(database)

    assert len(await claim(database, uuid, 10)) == 2
    await limit(database, Limits(global_limit=5))
    assert len(await claim(database, uuid, 10)) == 3
    await limit(database, Limits(global_limit=1))
    assert await claim(database, uuid, 10) == []
    await limit(database, Limits())
    assert len(await claim(database, uuid, 10)) == 10


async def test_the_dead_and_the_unlimited_claim_nothing_here(database: TestDatabase) -> None:
    await enqueue(database, "a", 1)
    uuid = await producer(database)
    assert await claim(database, uuid, 1) == []
    await limit(database, Limits(global_limit=2))
    await database.pool.execute("UPDATE qj_producers SET state = 'dead'")

    assert await claim(database, uuid, 1) == []


async def test_workers_keep_to_a_limit_also_when_one_is_killed(database: TestDatabase) -> None:
    await database.pool.execute(WITNESS)
    await limit(database, Limits(global_limit=2))
    async with cluster(database) as running:
        await running.scheduler()
        workers = [
            await running.worker(name, import_="tests.jobs", queues="default=10")
            for name in ("worker-1", "worker-2")
        ]
        await quarterjack.enqueue_many(database.pool, [NewJob(worker="wait_for_release")] * 6)
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = 2 FROM oban_jobs WHERE state = 'executing'"
            )
        )
        holder = await database.pool.fetchval(
            "SELECT min(attempted_by[1]) FROM oban_jobs WHERE state = 'executing'"
        )
        await workers[int(holder[-1]) - 1].kill()
        await database.pool.execute("CREATE TABLE released ()")
        await until(
            lambda: database.pool.fetchval("SELECT bool_and(state = 'completed') FROM oban_jobs"),
            within=30,
        )

    assert await database.pool.fetchval(MOST) == 2


async def test_a_queue_without_limits_is_claimed_by_the_same_statement_as_ever(
    database: TestDatabase,
) -> None:
    await enqueue(database, "a", 3)
    uuid = await producer(database)
    want = Want(queue="default", producer=uuid, demand=2)

    found = await limited_claims.claim(database.pool, wants=[want], node="n", nonce="x")

    assert (len(found.jobs), found.looks) == (2, {})
    assert len(await claims.claim(database.pool, wants=[want], node="n", nonce="x")) == 1
