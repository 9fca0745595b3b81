"""For tests of jobs: run them in this process, by the worker's own claims, runner and acks.

The pool is one of `quarterjack.open_pool`. `quarterjack.testing` looks at what is enqueued.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from quarterjack import __version__, enqueue
from quarterjack.client import check_db
from quarterjack.database import Pool
from quarterjack.errors import JobInvalid
from quarterjack.model import Job, JobState
from quarterjack.oban_web import NAME
from quarterjack.queries import claims, jobs, producers, settling, testing, upkeep
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Want
from quarterjack.queries.producers import Producing
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.handlers.middleware import MIDDLEWARE
from quarterjack_worker.handlers.processes import Processes
from quarterjack_worker.handlers.registry import REGISTRY, new_job, type_of
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.handlers.telling import Capture
from quarterjack_worker.journals import Journals

NODE = "testing"


async def perform(pool: Pool, job: str | Callable[..., Any], args: object = None) -> Job:
    """Enqueue a job as its type says, by its handler or name, and run it: the job as it is afterwards.

    A failure is the job's: see `state` and `errors`. Args that are an object may be wrong, so that a test can
    see them fail. LookupError if no imported module defines the job.
    """
    await _check_pool(pool)
    type = REGISTRY.get(job) if isinstance(job, str) else type_of(job)
    if type is None:
        raise LookupError(f"no job is named {job!r}: import the module that defines it")
    plain = _plain(job, args)
    made = await enqueue(
        pool,
        type.name,
        plain,
        queue=type.queue,
        priority=type.priority,
        max_attempts=type.max_attempts,
        tags=type.tags,
    )
    return await perform_job(pool, made.id)


async def perform_job(pool: Pool, id: int | None) -> Job:
    """Run one waiting job, due or not: the job as it is afterwards. ValueError if it does not wait to be run."""
    if not isinstance(id, int):
        raise TypeError(f"{id!r:.60} is no id of a job: give the `id` of what was enqueued")
    async with _worker(pool, "default") as worker:
        job = await testing.claim_one(pool, id, producer=worker.producer, node=NODE, nonce=_nonce())
        if job is None:
            found = await jobs.find(pool, id)
            standing = f"{found.state}, attempt {found.attempt}" if found else "not there"
            raise ValueError(
                f"job {id} is {standing}: only one that is available, scheduled or retryable and has attempts left "
                "can run; `drain` frees those that wait for others"
            )
        return await worker.run(job)


async def drain(pool: Pool, queue: str = "default", *, limit: int = 1_000) -> list[Job]:
    """Run the due jobs of a queue, one by one as a worker would claim them, until none is left.

    What these jobs enqueue for now runs too, and what waits for them; the jobs as each was after its run.
    AssertionError after `limit` runs: then some job follows itself without end.
    """
    if not isinstance(queue, str):
        raise TypeError(f"queue is {queue!r:.60}: give its name")
    ran: list[Job] = []
    async with _worker(pool, queue) as worker:
        want = Want(queue=queue, producer=worker.producer, demand=1)
        while True:
            await _settle(pool)
            await upkeep.stage(pool, limit=limit)
            claimed = await claims.claim(pool, wants=[want], node=NODE, nonce=_nonce())
            if not claimed:
                return ran
            ran += [await worker.run(job) for job in claimed]
            if len(ran) >= limit and await _due(pool, queue):
                raise AssertionError(
                    f"queue {queue} is not empty after {limit} runs, the last of {ran[-1].worker}: "
                    "give a larger `limit`, unless a job follows itself without end"
                )


class _Worker:
    """A producer that runs one job at a time."""

    def __init__(self, pool: Pool, threads: ThreadPoolExecutor, processes: Processes) -> None:
        self.producer: UUID = uuid4()
        self._pool = pool
        self._journals = Journals()
        self._runner = Runner(
            REGISTRY,
            MIDDLEWARE,
            pool=pool,
            told=self._journals.changed,
            threads=threads,
            processes=processes,
        )
        self._acker = Acker(pool, Telemetry("quarterjack-worker", NODE))

    async def run(self, job: Job) -> Job:
        """Run a claimed job to its ack."""
        context = self._runner.begin(job)
        ack = await _uncancelled(self._runner.run(context))
        if ack is not None:
            self._acker.add(ack, children=context.children)
            await self._acker.flush()
        if context.thread is not None:
            await asyncio.wait([context.thread])
        await self._journals.flush(self._pool)
        after = await jobs.find(self._pool, job.id)
        if after is None:
            raise LookupError(f"job {job.id} was deleted while it ran")
        return after


@asynccontextmanager
async def _worker(pool: Pool, queue: str) -> AsyncIterator[_Worker]:
    await _check_pool(pool)
    processes, capture, root = Processes(REGISTRY, 1), Capture(), logging.getLogger()
    with ThreadPoolExecutor(1, thread_name_prefix="job") as threads:
        worker = _Worker(pool, threads, processes)
        shown = Producing(uuid=worker.producer, queue=queue, limit=1, running=0, paused=False)
        await producers.register(
            pool, node=NODE, pid=0, version=__version__, name=NAME, producers=[shown]
        )
        root.addHandler(capture)
        try:
            yield worker
        finally:
            root.removeHandler(capture)
            await processes.close()
            await producers.leave(pool, uuids=[worker.producer])


def _plain(job: str | Callable[..., Any], args: object) -> Mapping[str, Any]:
    given = {} if args is None else args
    try:
        return new_job(job, given).args
    except JobInvalid:
        if isinstance(given, Mapping):
            return given
        raise


async def _check_pool(pool: object) -> None:
    if not isinstance(pool, asyncpg.Pool):
        raise TypeError(f"{pool!r:.60} is no pool: give one of quarterjack.open_pool")
    check_db(pool)
    if not await testing.decodes_json(pool):
        raise TypeError("this pool gives JSON as text: open it with quarterjack.open_pool")


async def _due(pool: Pool, queue: str) -> bool:
    await _settle(pool)
    await upkeep.stage(pool, limit=1_000)
    waiting = await testing.waiting(pool)
    return any(job.queue == queue and job.state is JobState.AVAILABLE for job in waiting)


async def _settle(pool: Pool) -> None:
    """Free what waited for jobs that have ended, as the leader does."""
    while (done := await settling.settle(pool, lines=1_000, edges=1_000)).lines > done.left:
        pass


async def _uncancelled(attempt: Coroutine[Any, Any, Ack | None]) -> Ack | None:
    """Run an attempt in a task of its own: it would take the cancellation of a test for a failure of its job.

    What a handler does to the task after its last await spoils no outcome.
    """
    ended: list[Ack | None] = []

    async def run() -> None:
        ended.append(await attempt)

    task = asyncio.create_task(run())
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    if not ended:
        await task
    return ended[0]


def _nonce() -> str:
    return uuid4().hex[:12]
