"""Unique jobs: which conflict, and how inserts of many at once come to agree."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

import quarterjack
from quarterjack import Enqueued, JobInvalid, NewJob, Unique
from quarterjack.inserting import CHUNK
from quarterjack.unique import LONGEST
from tests.conftest import TestDatabase
from tests.waiting import until

SLOW_INSERTS = """
CREATE FUNCTION take_a_moment() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON oban_jobs FOR EACH ROW EXECUTE FUNCTION take_a_moment();
"""
WAIT_FOR_THE_TEST = """
CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
CREATE TRIGGER wait BEFORE INSERT ON oban_jobs FOR EACH ROW WHEN (NEW.priority = 1)
  EXECUTE FUNCTION wait_for_the_test();
"""
WAITING = """
SELECT count(*) > 0 FROM pg_locks
WHERE locktype = $1 AND NOT granted
  AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
"""


async def test_a_unique_job_conflicts_within_its_period(database: TestDatabase) -> None:
    unique = Unique(period=timedelta(minutes=1))
    first = await quarterjack.enqueue(database.pool, "w", {"a": 1, "b": 2}, unique=unique)

    second = await quarterjack.enqueue(database.pool, "w", {"b": 2, "a": 1}, unique=unique)
    other = await quarterjack.enqueue(database.pool, "w", {"a": 2}, unique=unique)

    assert second == Enqueued(id=first.id, conflict=True)
    assert not other.conflict


async def test_a_unique_job_is_free_again_after_its_period(database: TestDatabase) -> None:
    unique = Unique(period=timedelta(minutes=1))
    await quarterjack.enqueue(database.pool, "w", unique=unique)
    await database.pool.execute("UPDATE oban_jobs SET inserted_at = inserted_at - interval '61 s'")

    assert not (await quarterjack.enqueue(database.pool, "w", unique=unique)).conflict


@pytest.mark.parametrize(
    "period", [timedelta.resolution, timedelta(days=2, microseconds=1), LONGEST]
)
async def test_any_period_can_be_written(database: TestDatabase, period: timedelta) -> None:
    unique = Unique(period=period)
    first = await quarterjack.enqueue(database.pool, "w", unique=unique)

    again = await quarterjack.enqueue(database.pool, "w", unique=unique)

    assert again.conflict is (period > timedelta.resolution)
    assert (again.id == first.id) is again.conflict


@pytest.mark.parametrize(("states", "conflict"), [("successful", True), ("incomplete", False)])
async def test_the_states_decide_whether_a_completed_job_blocks(
    database: TestDatabase, states: str, conflict: bool
) -> None:
    unique = Unique(period=None, states=states)
    await quarterjack.enqueue(database.pool, "w", unique=unique)
    await database.pool.execute("UPDATE oban_jobs SET state = 'completed'")

    assert (await quarterjack.enqueue(database.pool, "w", unique=unique)).conflict is conflict


async def test_of_many_concurrent_unique_inserts_one_wins(database: TestDatabase) -> None:
    unique = Unique(period=timedelta(minutes=1))

    results = await asyncio.gather(
        *(quarterjack.enqueue(database.pool, "w", unique=unique) for _ in range(40))
    )

    assert sum(not result.conflict for result in results) == 1
    assert len({result.id for result in results}) == 1
    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 1


async def test_a_batch_conflicts_with_itself(database: TestDatabase) -> None:
    unique = Unique(period=None)

    first, second, plain = await quarterjack.enqueue_many(
        database.pool,
        [NewJob(worker="w", unique=unique), NewJob(worker="w", unique=unique), NewJob(worker="w")],
    )

    assert (first.conflict, second.conflict, plain.conflict) == (False, True, False)
    assert first.id == second.id


@pytest.mark.parametrize(
    "odd",
    [{"keys": 5}, {"fields": 5}, {"fields": []}, {"fields": [[]]}, {"states": []}, {"replace": 5}],
)
def test_a_uniqueness_that_cannot_be_meant_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(JobInvalid, match=f"unique {next(iter(odd))}"):
        Unique(**odd)


@pytest.mark.parametrize("period", [timedelta(0), timedelta.max, timedelta(days=40_000), 60])
def test_a_uniqueness_without_end_is_said_so(period: Any) -> None:
    with pytest.raises(JobInvalid, match="None for ever"):
        Unique(period=period)


@pytest.mark.parametrize(
    "stored", [{"keys": "abc"}, {"fields": "args"}, {"states": []}, {"keys": [1]}]
)
def test_a_stored_uniqueness_that_cannot_be_meant_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(JobInvalid):
        Unique.from_json(stored)


async def test_unique_batches_in_opposite_order_do_not_deadlock(database: TestDatabase) -> None:
    await database.pool.execute(SLOW_INSERTS)
    unique = Unique(period=None)
    forth = [NewJob(worker="w", args={"n": n}, unique=unique) for n in range(100)]

    batches = await asyncio.gather(
        *(
            quarterjack.enqueue_many(database.pool, forth if number % 2 else forth[::-1])
            for number in range(4)
        )
    )

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 100
    assert sum(not result.conflict for batch in batches for result in batch) == 100


async def test_keys_are_taken_from_jobs_by_their_ids_whatever_order_they_are_found_in(
    database: TestDatabase,
) -> None:
    """Or two batches would wait for each other."""
    new = [
        NewJob(worker="w", args={"n": n}, unique=Unique(period=timedelta.resolution))
        for n in range(2)
    ]
    first, last = await quarterjack.enqueue_many(database.pool, new)
    await database.pool.execute("UPDATE oban_jobs SET priority = 1 WHERE id = $1", first.id)
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", first.id)
        late = asyncio.create_task(quarterjack.enqueue_many(database.pool, new[::-1]))
        await until(partial(database.pool.fetchval, WAITING, "transactionid"))

        await other.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE NOWAIT", last.id)

    assert [result.conflict for result in await late] == [False, False]


@pytest.mark.parametrize("others", [0, CHUNK])
async def test_unique_batches_with_other_periods_that_deadlock_go_on(
    database: TestDatabase, others: int
) -> None:
    """One has released a key when the other waits for that, and then waits for one that the other has inserted."""
    pool, short, long = database.pool, Unique(), Unique(period=None)
    first, last = sorted(
        ({"n": n} for n in range(2)),
        key=lambda args: long.key(worker="w", queue="default", args=args),
    )
    await quarterjack.enqueue(pool, "w", last, unique=long)
    await pool.execute("UPDATE oban_jobs SET inserted_at = inserted_at - interval '1 hour'")
    await pool.execute(WAIT_FOR_THE_TEST)
    async with pool.acquire() as holder, asyncio.TaskGroup() as inserts, holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock(7)")
        for priority, unique, lock in ((1, short, "advisory"), (0, long, "transactionid")):
            made = [
                NewJob(worker="w", args=args, unique=unique, priority=priority)
                for args in (first, last)
            ]
            made += [NewJob(worker=lock, args={"n": n}, unique=unique) for n in range(others)]
            inserts.create_task(quarterjack.enqueue_many(pool, made))
            await until(partial(pool.fetchval, WAITING, lock))

    held = await pool.fetch("SELECT meta ->> 'qj_unique' FROM oban_jobs WHERE meta ? 'qj_unique'")
    assert len(held) == 2 + 2 * others
