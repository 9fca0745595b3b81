"""What a program can ask of the jobs that it has enqueued."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

import quarterjack
from quarterjack import Job, JobState, JobUnknown
from tests.conftest import TestDatabase
from tests.waiting import until

LONG = timedelta(seconds=20)
END = """
UPDATE oban_jobs SET state = 'completed', completed_at = timezone('UTC', now()), meta = '{"result": [1, "two"]}'
"""
LOOKED = "SELECT query LIKE '%AS outcome%' FROM pg_stat_activity WHERE pid = $1"


@asynccontextmanager
async def waiting_for(database: TestDatabase, id: int | None) -> AsyncIterator[asyncio.Task[Job]]:
    """Have somebody wait for a job, on a connection of his own, who has looked at it."""
    async with database.pool.acquire() as connection:
        pid = connection.get_server_pid()
        waiting = asyncio.create_task(quarterjack.wait_for_job(connection, id, within=LONG))
        await until(lambda: database.pool.fetchval(LOOKED, pid))
        yield waiting


async def test_a_job_is_waited_for_until_it_has_ended(database: TestDatabase) -> None:
    made = await quarterjack.enqueue(database.pool, "w", {"n": 1})
    async with waiting_for(database, made.id) as waiting:
        assert not waiting.done()

        await database.pool.execute(END)
        job = await waiting

    assert (job.id, job.state, job.args) == (made.id, JobState.COMPLETED, {"n": 1})
    assert job.result == [1, "two"]


async def test_a_job_that_does_not_end_is_waited_for_no_longer_than_asked(
    database: TestDatabase,
) -> None:
    made = await quarterjack.enqueue(database.pool, "w")

    with pytest.raises(TimeoutError, match=rf"job {made.id} has not ended within 0:00:00\.1"):
        await quarterjack.wait_for_job(database.pool, made.id, within=timedelta(seconds=0.1))


async def test_a_job_that_is_deleted_is_waited_for_no_longer(database: TestDatabase) -> None:
    made = await quarterjack.enqueue(database.pool, "w")
    async with waiting_for(database, made.id) as waiting:
        await database.pool.execute("DELETE FROM oban_jobs")

        with pytest.raises(JobUnknown, match=f"no job {made.id}"):
            await waiting


@pytest.mark.parametrize("id", [None, 77])
async def test_no_job_is_found_nor_waited_for(database: TestDatabase, id: int | None) -> None:
    assert await quarterjack.find_job(database.pool, id) is None
    with pytest.raises(JobUnknown):
        await quarterjack.wait_for_job(database.pool, id, within=LONG)


async def test_nobody_waits_in_the_transaction_that_enqueues(database: TestDatabase) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        made = await quarterjack.enqueue(connection, "w")

        with pytest.raises(RuntimeError, match="commit first"):
            await quarterjack.wait_for_job(connection, made.id, within=LONG)


async def test_a_database_that_does_not_answer_is_not_taken_for_a_job_that_does_not_end(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> dict[int, str | None]:
        raise TimeoutError("no answer")

    monkeypatch.setattr("quarterjack.queries.flows.outcomes", silent)

    with pytest.raises(TimeoutError, match="no answer"):
        await quarterjack.wait_for_job(database.pool, 1, within=LONG)


async def test_what_is_no_database_is_refused() -> None:
    with pytest.raises(TypeError, match="str is no pool and no connection"):
        await quarterjack.wait_for_job("postgresql://", 1, within=LONG)  # type: ignore[arg-type]


async def test_jobs_are_cancelled_and_retried(database: TestDatabase) -> None:
    first = await quarterjack.enqueue(database.pool, "w")
    second = await quarterjack.enqueue(database.pool, "w")
    async with database.pool.acquire() as connection:
        assert await quarterjack.cancel_jobs(connection, [first.id, None, 77]) == 1
        cancelled = await quarterjack.wait_for_job(connection, first.id, within=LONG)
        assert await quarterjack.cancel_jobs(connection, [first.id]) == 0
        assert await quarterjack.retry_jobs(connection, [first.id, second.id, None]) == 1
        retried = await quarterjack.find_job(connection, first.id)

    assert cancelled.state is JobState.CANCELLED
    assert cancelled.result is None
    assert retried is not None
    assert retried.state is JobState.AVAILABLE


async def test_a_connection_that_reads_no_json_is_told_so(database: TestDatabase) -> None:
    made = await quarterjack.enqueue(database.pool, "w")
    plain = await asyncpg.connect(database.url)
    try:
        with pytest.raises(TypeError, match=r"give a pool of quarterjack\.open_pool"):
            await quarterjack.find_job(plain, made.id)
    finally:
        await plain.close()
