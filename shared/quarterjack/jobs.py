"""Jobs that were enqueued: read one, wait for its end, cancel and retry."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg

from quarterjack.client import check_db
from quarterjack.database import Connection, Database, borrowed
from quarterjack.errors import JobUnknown
from quarterjack.model import Job
from quarterjack.queries import bulk, flows, jobs

SHORTEST, LONGEST, LONGER = 0.02, 1.0, 1.5


async def find_job(db: Database, id: int | None) -> Job | None:
    """Read a job; None if there is none, or it was pruned.

    `db` is a pool of `open_pool`, or a connection of one, which decode JSON.
    """
    async with _connection(db) as connection:
        job = None if id is None else await jobs.find(connection, id)
    if job is not None and isinstance(job.args, str):
        raise TypeError(
            "this connection does not decode JSON: give a pool of quarterjack.open_pool"
        )
    return job


async def wait_for_job(db: Database, id: int | None, *, within: timedelta) -> Job:
    """Wait until a job has completed, or was cancelled or discarded, and give it: its `result`, if its type records it.

    Looks at once, and then ever more rarely, up to once a second. Raises TimeoutError if it has not ended by then, and
    JobUnknown if it does not exist, or no longer.
    """
    check_db(db)
    if not isinstance(db, asyncpg.Pool) and db.is_in_transaction():
        raise RuntimeError("commit first: while this transaction is open it may hold up the job")
    pause = SHORTEST
    try:
        async with asyncio.timeout(within.total_seconds()) as limit:
            while True:
                job = await _ended(db, id)
                if job is not None:
                    return job
                await asyncio.sleep(pause)
                pause = min(pause * LONGER, LONGEST)
    except TimeoutError as error:
        if not limit.expired():
            raise  # it is the database that did not answer
        raise TimeoutError(f"job {id} has not ended within {within}") from error


async def cancel_jobs(db: Database, ids: Sequence[int | None]) -> int:
    """Cancel jobs that wait, and ask workers to stop those that run; how many of them had not ended.

    One that runs is `executing` until its worker has stopped it.
    """
    async with _connection(db) as connection:
        return await bulk.cancel(connection, [id for id in ids if id is not None])


async def retry_jobs(db: Database, ids: Sequence[int | None]) -> int:
    """Make jobs available at once, under their own ids, those that have ended as well as those that wait; how many.

    One that runs or is available stays as it is. One whose attempts are used up gets one more.
    """
    async with _connection(db) as connection:
        return await bulk.retry(connection, [id for id in ids if id is not None])


async def _ended(db: Database, id: int | None) -> Job | None:
    """Read a job that has ended; None if it has not. Its args may be large, so its state alone is looked at first."""
    async with _connection(db) as connection:
        outcomes = {} if id is None else await flows.outcomes(connection, [id])
    if id not in outcomes:
        raise JobUnknown(f"there is no job {id}, or no longer")
    job = await find_job(db, id) if outcomes[id] else None
    return job if job is not None and job.state == outcomes[id] else None


@asynccontextmanager
async def _connection(db: Database) -> AsyncIterator[Connection]:
    check_db(db)
    if not isinstance(db, asyncpg.Pool):
        yield db
        return
    async with borrowed(db) as connection:
        yield connection
