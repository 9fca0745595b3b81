"""What a handler may know and do besides its args."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, Unpack

from pydantic_core import from_json, to_json

from quarterjack.client import enqueue_many
from quarterjack.database import Connection, Pool
from quarterjack.encoding import encode_object
from quarterjack.errors import JobInvalid, QuarterjackError
from quarterjack.model import Job
from quarterjack.new_job import NewJob, Options, fix
from quarterjack.queries import acks
from quarterjack.queries.claims import Claim
from quarterjack_worker.handlers.failures import storable
from quarterjack_worker.handlers.parents import Parents, Read, read_page
from quarterjack_worker.handlers.registry import new_job
from quarterjack_worker.handlers.telling import Telling, Told
from quarterjack_worker.marks import Marks

log = logging.getLogger(__name__)

LONGEST_WARNING = 1_000
LARGEST_RESULT = 16_000
HEAVIEST = 16_000_000

Answer = TypeVar("Answer")


class ClaimLost(QuarterjackError):
    """The job was taken from this worker meanwhile; what the transaction wrote is rolled back."""


@dataclass(slots=True, kw_only=True)
class Context:
    """One attempt of a job. `deadline` is when its timeout ends it, None if nothing does.

    For the worker are `notes`, which go into the meta of the job with its ack, and `children`.
    """

    job: Job
    claim: Claim
    handlers_pool: "Pool | None"
    told: Told
    ask: Read | None = None
    asked_at: float = 0.0
    marks: Marks | None = None
    deadline: datetime | None = None
    stopping: bool = False
    killed: bool = False
    completed: bool = False
    over: bool = False
    task: "asyncio.Task[None] | None" = None
    begun: bool = False
    marked: bool = False
    thread: asyncio.Future[tuple[object, BaseException | None]] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    children: list[NewJob] = field(default_factory=list)
    _completing: bool = field(default=False, init=False)
    _weight: int = field(default=0, init=False)
    _telling: Telling | None = field(default=None, init=False)
    _awaited: set[Future[Any]] = field(default_factory=set, init=False)

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.job.attempt

    @property
    def pool(self) -> Pool:
        """Connections to the database of the jobs. A handler in a process has none, RuntimeError."""
        if self.handlers_pool is None:
            raise RuntimeError(
                "a handler in a process has no pool: connect there, or leave process out"
            )
        return self.handlers_pool

    def cancelled(self) -> bool:
        """Say whether the job should stop: someone cancelled it, its time is up, or the worker goes down."""
        return self.stopping

    def mark(self) -> None:
        """Note for the supervisor that code of the job runs from now on; for the worker."""
        self.marked = True
        if self.marks is not None:
            self.marks.begin(self.claim.id)

    def cancel(self) -> None:
        """Ask the handler to stop; for the worker."""
        self.stopping = True
        for awaited in list(self._awaited):
            awaited.cancel()

    def kill(self) -> None:
        """Ask the handler to stop because someone cancelled the job; for the worker."""
        self.killed = True
        self.cancel()

    def interrupt(self) -> None:
        """Interrupt it where it waits; for the worker. A task that has not begun sees it when it does."""
        if self.task is not None and self.begun:
            self.task.cancel()

    def warn(self, text: str) -> None:
        """Say something that an admin should see, in the log and with the job; the last one is kept."""
        text = storable(str(text), LONGEST_WARNING)
        log.warning("job %s: %s", self.job.id, text, extra={"job_id": self.job.id})
        self.notes["warning"] = text

    def enqueue(
        self, job: str | Callable[..., Any], args: object = None, **options: Unpack[Options]
    ) -> None:
        """Enqueue a job, as `new_job` makes it, when this one completes: both are written or neither is.

        Nothing is enqueued if the attempt fails, snoozes, cancels or discards. JobInvalid if the job cannot be
        stored, all of them together are too large, or this one has ended.
        """
        if self.completed or self.over:
            raise JobInvalid(
                f"job {self.job.id} has ended already: enqueue before it returns, or its transaction() ends"
            )
        child = new_job(job, args, **options)
        self._weight += fix(child)
        if self._weight > HEAVIEST:
            raise JobInvalid(
                f"job {self.job.id} enqueues more than {HEAVIEST // 1_000_000} MB: leave the rest to a job of its own"
            )
        self.children.append(child)

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Await something from a `def` in its thread, on the worker's loop: `context.run(context.pool.fetch(…))`.

        CancelledError when the job should stop. RuntimeError where there is no such loop, or it is the caller's own.
        """
        if self.loop is None or _on_a_loop():
            work.close()
            raise RuntimeError(
                "only a def in a thread has a loop to run this on: await it in an async def"
            )
        awaited = asyncio.run_coroutine_threadsafe(work, self.loop)
        self._awaited.add(awaited)
        try:
            if self.stopping:
                awaited.cancel()
            return awaited.result()
        finally:
            self._awaited.discard(awaited)

    def parents(self) -> Parents:
        """Give what this job waited for: `async for parent in context.parents()`, in a thread `for`.

        They come by their ids, and are read in pages, so that there may be any number.
        """
        if self.ask is not None:
            return Parents(self.ask, asyncio.run)
        return Parents(partial(read_page, self.pool, self.job.id), self.run)

    def record(self, result: object) -> None:
        """Keep a result with the job. One that cannot be kept is a warning: the work is done."""
        if self.completed:
            self.warn("its result was not recorded: give it to transaction(result=…)")
            return
        try:
            if isinstance(result, Iterator):
                raise JobInvalid("it is an iterator, which may have no end: return a list")
            text = to_json(result, inf_nan_mode="constants")
            if len(text) > LARGEST_RESULT:
                raise JobInvalid(f"it has {len(text)} bytes of JSON: at most {LARGEST_RESULT}")
            plain = from_json(text)
            encode_object("it", {"result": plain})
            self.notes["result"] = plain
        except Exception as error:  # whatever its own code raises when it is read
            self.warn(f"the result was not recorded: {error}")

    def progress(self, percent: float, message: str | None = None) -> None:
        """Show on the job's page how far this attempt is, within a second; call it as often as you like."""
        self.telling().progress(percent, message)

    def telling(self) -> Telling:
        """Give what collects progress and log lines; for the worker."""
        if self._telling is None:
            self._telling = Telling(self.job, self.claim, self.told)
        return self._telling

    @asynccontextmanager
    async def transaction(self, *, result: object = None) -> AsyncIterator[Connection]:
        """Write to this database once: what is written inside commits together with the completion.

        So does what was enqueued, and `result`, which is recorded.

        Use it last. If the job was taken from this worker meanwhile, or the block raises, nothing is
        written. Only for `async def` handlers, and RuntimeError within another or after it: a job completes once.
        """
        if self._completing or self.completed:
            raise RuntimeError(
                f"job {self.job.id} has a transaction() already, which completes it: use its connection"
            )
        self._completing = True
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                yield connection
                if result is not None:
                    self.record(result)
                done = acks.Ack(claim=self.claim, state="completed", meta=self.notes)
                if not await acks.ack(connection, [done]):
                    raise ClaimLost(
                        f"job {self.job.id} was taken from this worker; it runs elsewhere"
                    )
                await enqueue_many(connection, self.children)
            self.completed = True
        finally:
            self._completing = False


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
