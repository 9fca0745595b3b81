"""A unique insert replaces what waits, never what runs, whoever else inserts at the same time."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

import quarterjack
from quarterjack import Enqueued, JobInvalid, NewJob, Unique
from quarterjack.queries import replacing
from quarterjack.queries.replacing import Replacement
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.limited import BLOCKED

LATER = datetime(2040, 1, 1, tzinfo=UTC)
ONE = Unique(period=None, states="incomplete", keys=("id",), replace=("args", "scheduled_at"))


def wanted(id: int, key: str) -> Replacement:
    return Replacement(
        id=id,
        key=key,
        fields=["args", "scheduled_at"],
        args='{"id": 2}',
        scheduled_at=None,
        priority=0,
        max_attempts=1,
        tags=[],
    )


async def test_what_waits_is_replaced_in_the_named_fields(database: TestDatabase) -> None:
    first = await quarterjack.enqueue(
        database.pool, "w", {"id": 1, "n": 1}, unique=ONE, scheduled_at=LATER, priority=3
    )

    second = await quarterjack.enqueue(
        database.pool, "w", {"id": 1, "n": 2}, unique=ONE, scheduled_at=LATER + timedelta(days=1)
    )

    assert second == Enqueued(id=first.id, conflict=True, replaced=True)
    row = await database.row("SELECT state::text, args, priority, scheduled_at FROM oban_jobs")
    assert (row["state"], row["args"], row["priority"]) == ("scheduled", {"id": 1, "n": 2}, 3)
    assert row["scheduled_at"].isoformat() == "2040-01-02T00:00:00"

    await quarterjack.enqueue(database.pool, "w", {"id": 1, "n": 3}, unique=ONE)
    row = await database.row("SELECT state::text, args FROM oban_jobs")
    assert (row["state"], row["args"]["n"]) == ("available", 3)


async def test_what_runs_is_left_as_it_is(database: TestDatabase) -> None:
    await quarterjack.enqueue(database.pool, "w", {"id": 1, "n": 1}, unique=ONE)
    await database.pool.execute("UPDATE oban_jobs SET state = 'executing', attempt = 1")

    second = await quarterjack.enqueue(database.pool, "w", {"id": 1, "n": 2}, unique=ONE)

    assert (second.conflict, second.replaced) == (True, False)
    assert (await database.row("SELECT args FROM oban_jobs"))["args"]["n"] == 1


async def test_what_begins_just_now_is_left_as_it_is(database: TestDatabase) -> None:
    """It would otherwise run a second time."""
    await quarterjack.enqueue(database.pool, "w", {"id": 1}, unique=ONE)
    job = await database.row("SELECT id, meta ->> 'qj_unique' AS key FROM oban_jobs")
    async with database.pool.acquire() as worker, worker.transaction():
        await worker.execute("UPDATE oban_jobs SET state = 'executing', attempt = 1")
        late = asyncio.create_task(replacing.replace(database.pool, [wanted(**job)]))
        await until(lambda: database.pool.fetchval(BLOCKED))

    assert await late == set()
    assert await database.pool.fetchval("SELECT state::text FROM oban_jobs") == "executing"


async def test_jobs_are_locked_by_id_whatever_order_they_are_found_in(
    database: TestDatabase,
) -> None:
    """Or two batches would wait for each other."""
    for id in (1, 2):
        await quarterjack.enqueue(database.pool, "w", {"id": id}, unique=ONE)
    await database.pool.execute("UPDATE oban_jobs SET priority = 1 WHERE id = 1")
    jobs = await database.pool.fetch(
        "SELECT id, meta ->> 'qj_unique' AS key FROM oban_jobs ORDER BY id DESC"
    )
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM oban_jobs WHERE id = 1 FOR UPDATE")
        late = asyncio.create_task(
            replacing.replace(database.pool, [wanted(**job) for job in jobs])
        )
        await until(lambda: database.pool.fetchval(BLOCKED))

        await other.execute("SELECT FROM oban_jobs WHERE id = 2 FOR UPDATE NOWAIT")

    assert await late == {1, 2}


async def test_what_is_not_named_stays_as_it_is(database: TestDatabase) -> None:
    """The state and its instant belong together, and a job keeps an attempt to wait for."""
    few = Unique(period=None, keys=("id",), replace=("max_attempts",))
    await quarterjack.enqueue(database.pool, "w", {"id": 1, "n": 1}, unique=few, scheduled_at=LATER)
    await database.pool.execute("UPDATE oban_jobs SET state = 'retryable', attempt = 5")

    await quarterjack.enqueue(database.pool, "w", {"id": 1, "n": 2}, unique=few, max_attempts=2)

    row = await database.row(
        "SELECT state::text, scheduled_at, args ->> 'n' AS n, max_attempts FROM oban_jobs"
    )
    assert tuple(row) == ("retryable", LATER.replace(tzinfo=None), "1", 6)


async def test_a_job_that_has_given_its_key_up_is_not_replaced(database: TestDatabase) -> None:
    """As when its period ended since it was found to hold it."""
    made = await quarterjack.enqueue(database.pool, "w", {"id": 1}, unique=ONE)

    assert await replacing.replace(database.pool, [wanted(made.id or 0, "another")]) == set()
    assert (await database.row("SELECT args FROM oban_jobs"))["args"] == {"id": 1}


async def test_only_a_job_that_is_due_by_it_rings(database: TestDatabase) -> None:
    args = Unique(period=None, replace=("args",), keys=())
    await quarterjack.enqueue(database.pool, "w", queue="here", unique=args)
    await quarterjack.enqueue(database.pool, "w", {"id": 1}, unique=ONE, scheduled_at=LATER)
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))

    again = await quarterjack.enqueue(database.pool, "w", queue="here", unique=args)
    await quarterjack.enqueue(database.pool, "w", {"id": 1}, unique=ONE)

    async with asyncio.timeout(10):
        assert (again.replaced, json.loads(await heard.get())) == (True, {"queue": "default"})
    await ear.close()


async def test_of_a_batch_the_last_replaces(database: TestDatabase) -> None:
    results = await quarterjack.enqueue_many(
        database.pool,
        [NewJob(worker="w", args={"id": 1, "n": n}, unique=ONE) for n in range(4)],
    )

    assert [result.conflict for result in results] == [False, True, True, True]
    assert [result.replaced for result in results] == [False, False, False, True]
    assert (await database.row("SELECT args FROM oban_jobs"))["args"]["n"] == 3


async def test_many_at_once_leave_one_job_and_lose_no_reply(database: TestDatabase) -> None:
    async def insert(n: int) -> list[Enqueued]:
        order = range(10) if n % 2 else reversed(range(10))
        made = [NewJob(worker="w", args={"id": id, "n": n}, unique=ONE) for id in order]
        return await quarterjack.enqueue_many(database.pool, made)

    async with asyncio.timeout(30):
        batches = await asyncio.gather(*(insert(n) for n in range(30)))

    results = [result for batch in batches for result in batch]
    assert sum(not result.conflict for result in results) == 10
    assert all(result.replaced for result in results if result.conflict)
    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 10


@pytest.mark.parametrize("replace", ["args", ("state",), ("args", "queue")])
def test_what_cannot_be_replaced_is_refused(replace: object) -> None:
    with pytest.raises(JobInvalid, match="choose from args, scheduled_at"):
        Unique(replace=replace)  # type: ignore[arg-type]
