"""Claims, acks and releases: who holds a job, and that nobody else can say what became of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.queries import acks, claims, jobs, producers
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Claim, Want
from quarterjack.queries.producers import Producing
from quarterjack_worker.queues import Queues
from tests.conftest import TestDatabase

ROW = "SELECT state::text, attempt, errors, attempted_by FROM oban_jobs ORDER BY id LIMIT 1"


async def producer(database: TestDatabase) -> UUID:
    uuid = uuid4()
    shown = Producing(uuid=uuid, queue="default", limit=10, running=0, paused=False)
    await producers.register(
        database.pool, node="n", pid=1, version="0", name="Oban", producers=[shown]
    )
    return uuid


async def claim(database: TestDatabase, uuid: UUID, demand: int = 10) -> list[Claim]:
    found = await claims.claim(
        database.pool,
        wants=[Want(queue="default", producer=uuid, demand=demand)],
        node="n",
        nonce=uuid4().hex[:12],
    )
    return [Claim(job.id, job.attempted_by[2]) for job in found]


async def test_concurrent_claims_share_the_jobs(database: TestDatabase) -> None:
    await quarterjack.enqueue_many(database.pool, [NewJob(worker="w")] * 100)
    uuids = [await producer(database) for _ in range(4)]

    found = await asyncio.gather(*(claim(database, uuid, 40) for uuid in uuids))

    ids = [each.id for batch in found for each in batch]
    assert len(ids) == len(set(ids)) <= 100
    assert max(len(batch) for batch in found) <= 40


async def test_priority_then_age_decides(database: TestDatabase) -> None:
    made = await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="w", priority=p) for p in (5, 0, 5, 1)]
    )

    [first] = await claim(database, await producer(database), 1)
    rest = await claim(database, await producer(database), 2)

    assert first.id == made[1].id
    assert {each.id for each in rest} == {made[3].id, made[0].id}


async def test_the_dead_claim_nothing(database: TestDatabase) -> None:
    await quarterjack.enqueue(database.pool, "w")
    uuid = await producer(database)
    await database.pool.execute("UPDATE qj_producers SET state = 'dead'")

    assert await claim(database, uuid) == []
    assert (
        await producers.beat(
            database.pool,
            node="n",
            name="Oban",
            draining=False,
            producers=[Producing(uuid=uuid, queue="default", limit=1, running=0, paused=False)],
        )
        == {}
    )


async def test_a_job_that_another_session_holds_is_passed_over(database: TestDatabase) -> None:
    held, free = await quarterjack.enqueue_many(database.pool, [NewJob(worker="w")] * 2)
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", held.id)

        async with asyncio.timeout(5):
            [found] = await claim(database, await producer(database), 1)

    assert found.id == free.id


async def test_a_job_without_attempts_left_takes_no_place(database: TestDatabase) -> None:
    await database.pool.execute(
        "INSERT INTO oban_jobs (worker, attempt, max_attempts) VALUES ('spent', 1, 1), ('fresh', 0, 1)"
    )

    assert len(await claim(database, await producer(database), 1)) == 1


async def test_another_claim_of_the_same_job_is_fenced(database: TestDatabase) -> None:
    await quarterjack.enqueue(database.pool, "w")
    uuid = await producer(database)
    [before] = await claim(database, uuid)
    await claims.release(database.pool, claims=[before])
    await claim(database, uuid)

    assert await acks.ack(database.pool, [Ack(claim=before, state="completed")]) == set()
    assert await acks.complete(database.pool, [before]) == set()
    assert await claims.release(database.pool, claims=[before]) == []

    row = await database.pool.fetchrow(ROW)
    assert row is not None
    assert (row["state"], row["attempt"]) == ("executing", 1)


async def test_a_claim_for_many_queues_says_of_each_job_whose_it_is(database: TestDatabase) -> None:
    wants = [
        Want(queue=queue, producer=await producer(database), demand=10) for queue in ("a", "b")
    ]
    await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="w", queue=want.queue) for want in wants]
    )

    found = await claims.claim(database.pool, wants=wants, node="n", nonce="x")

    assert {job.queue: job.attempted_by for job in found} == {
        want.queue: ["n", str(want.producer), "x"] for want in wants
    }
    assert found == [await jobs.find(database.pool, job.id) for job in found]


async def test_a_job_is_claimed_as_it_is_written(database: TestDatabase) -> None:
    soon = datetime.now(UTC) - timedelta(hours=1)
    await quarterjack.enqueue(database.pool, "w", {"to": "Zo\u00eb"}, tags=["a"])
    await quarterjack.enqueue(database.pool, "w", scheduled_at=soon)
    await database.pool.execute("UPDATE oban_jobs SET state = 'available'")
    want = Want(queue="default", producer=await producer(database), demand=10)

    found = await claims.claim(database.pool, wants=[want], node="n", nonce="x")

    assert found == [await jobs.find(database.pool, job.id) for job in found]
    assert min(job.scheduled_at for job in found) == soon


async def test_an_ack_counts_once(database: TestDatabase) -> None:
    await quarterjack.enqueue(database.pool, "w")
    [held] = await claim(database, await producer(database))
    ack = Ack(claim=held, state="retryable", error="it failed", delay=60)

    assert await acks.ack(database.pool, [ack]) == {held.id}
    assert await acks.ack(database.pool, [ack]) == set()

    assert await acks.landed(database.pool, [ack]) == {held.id}
    row = await database.pool.fetchrow(ROW)
    assert row is not None
    assert [error["error"] for error in row["errors"]] == ["it failed"]


async def test_a_plain_completion_counts_once_and_never_after_a_cancellation(
    database: TestDatabase,
) -> None:
    await quarterjack.enqueue_many(database.pool, [NewJob(worker="w")] * 2)
    done, cancelled = await claim(database, await producer(database))
    await database.pool.execute(
        "UPDATE oban_jobs SET state = 'cancelled' WHERE id = $1", cancelled.id
    )

    assert await acks.complete(database.pool, [done, cancelled]) == {done.id}
    assert await acks.complete(database.pool, [done, cancelled]) == set()

    rows = await database.pool.fetch("SELECT state::text, completed_at FROM oban_jobs ORDER BY id")
    assert [row["state"] for row in rows] == ["completed", "cancelled"]
    assert [row["completed_at"] is None for row in rows] == [False, True]


async def test_jobs_of_a_claim_start_by_priority_then_age(database: TestDatabase) -> None:
    made = await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="w", priority=p) for p in (5, 0, 5, 1)]
    )

    found = await claim(database, await producer(database))

    assert [each.id for each in found] == [made[place].id for place in (1, 3, 0, 2)]


def test_half_of_a_large_limit_is_claimed_at_once() -> None:
    queues = Queues({"small": 10, "large": 1000}, {"small": uuid4(), "large": uuid4()}, "n")

    assert [want.demand for want in queues.wants(limited=False)] == [10, 500]
    queues["large"].running = 700
    assert [want.demand for want in queues.wants(limited=False)] == [10, 300]


async def test_a_released_claim_costs_no_attempt(database: TestDatabase) -> None:
    await quarterjack.enqueue(database.pool, "w")
    [held] = await claim(database, await producer(database))

    assert await claims.release(database.pool, claims=[held]) == ["default"]
    assert await claims.release(database.pool, claims=[held]) == []

    row = await database.pool.fetchrow(ROW)
    assert row is not None
    assert (row["state"], row["attempt"]) == ("available", 0)


@pytest.mark.parametrize("snoozed", [1e300, "x", None, 7])
async def test_a_strange_meta_does_not_spoil_a_snooze(database: TestDatabase, snoozed: Any) -> None:
    await quarterjack.enqueue(database.pool, "w", meta={"snoozed": snoozed})
    [held] = await claim(database, await producer(database))

    done = await acks.ack(
        database.pool, [Ack(claim=held, state="scheduled", delay=1, snoozed=True)]
    )

    assert done == {held.id}
    assert await database.pool.fetchval("SELECT meta -> 'snoozed' FROM oban_jobs") == {
        1e300: 1_000_000_001,
        7: 8,
    }.get(snoozed, 1)
