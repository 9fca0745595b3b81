"""Run one attempt to its outcome: whatever a handler does becomes an ack, and nothing of it escapes."""

import asyncio
import contextvars
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

from quarterjack.database import Pool
from quarterjack.model import Job
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Claim
from quarterjack_worker.deaths import end_copy
from quarterjack_worker.handlers.backoff import seconds_until_retry
from quarterjack_worker.handlers.calling import arguments, call, check_ran
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.failures import Failed, describe, name, storable
from quarterjack_worker.handlers.job_types import JobType
from quarterjack_worker.handlers.middleware import Middleware, Next, wrapped
from quarterjack_worker.handlers.outcomes import Cancel, Outcome, Snooze
from quarterjack_worker.handlers.processes import Processes
from quarterjack_worker.handlers.telling import CURRENT, Told

log = logging.getLogger(__name__)

YEAR = 366 * 86_400.0
HEEDS_WITHIN = 5.0


class Released(Exception):
    """The job did not end here: it goes back as if it had not been claimed."""


class Runner:
    """Runs handlers: coroutines on this loop, functions in threads or processes of its own."""

    def __init__(
        self,
        types: Mapping[str, JobType],
        layers: Sequence[Middleware],
        *,
        pool: Pool,
        told: Told,
        threads: ThreadPoolExecutor,
        processes: Processes,
    ) -> None:
        self._types = types
        self._layers = layers
        self._pool = pool
        self._told = told
        self._threads = threads
        self._processes = processes

    def begin(self, job: Job) -> Context:
        """Give the context of a claimed job's attempt."""
        claim = Claim(job.id, job.attempted_by[2])
        return Context(job=job, claim=claim, handlers_pool=self._pool, told=self._told)

    async def run(self, context: Context) -> Ack | None:
        """Give the ack of this attempt; None if the handler's transaction has written it.

        Raises Released when the worker itself cancelled it.
        """
        before = CURRENT.set(context.telling)
        try:
            if context.cancelled():
                raise asyncio.CancelledError
            result = await self._call(context)
            if not context.completed:
                ends = isinstance(result, Outcome) and not (
                    context.killed and isinstance(result, Snooze)
                )
                if context.cancelled() and not ends:
                    raise asyncio.CancelledError  # a handler that caught it has done what it could, not its work
                return _ended(context, result)
            if isinstance(result, Outcome):
                context.warn(
                    f"it is completed, by its transaction(), and cannot be {result!r:.200}"
                )
            return None
        except BaseException as error:
            if not context.completed:
                return self._stopped(context, error)
            if not isinstance(error, asyncio.CancelledError):
                said = (str if isinstance(error, Failed) else name)(error).partition("\n")[0]
                context.warn(
                    f"it is completed, by its transaction(), but failed after that: {said}"
                )
            return None
        finally:
            end_copy()
            context.over = True
            CURRENT.reset(before)

    async def _call(self, context: Context) -> object:
        job = context.job
        type = self._types.get(job.worker)
        if type is None:
            raise Failed(
                f"UnknownWorker: this worker knows no job named {job.worker!r:.130}; "
                "--import the module that has it, or give it a queue of its own"
            )
        longest = timeout_of(type, job)
        if type.process:
            async with self._processes.one() as process:
                context.mark()
                result = await self._within(longest, context, partial(process.run, context))
        else:
            context.mark()
            if self._layers or longest:
                result = await self._within(longest, context, partial(self._here, type, context))
            else:
                result = await self._here(type, context)
        check_ran(result)
        if type.recorded and result is not None and not isinstance(result, Outcome):
            context.record(result)
        return result

    async def _within(self, longest: timedelta | None, context: Context, attempt: Next) -> object:
        """Run within the middleware and the timeout; waiting for a process does not count."""
        if self._layers:
            attempt = wrapped(self._layers, context, partial(_whole, context, attempt))
        return await (_timed(context, attempt, longest) if longest else attempt())

    async def _here(self, type: JobType, context: Context) -> object:
        if type.is_async:
            return await type.handler(*arguments(type, context))
        loop, variables = asyncio.get_running_loop(), contextvars.copy_context()
        context.loop = loop
        context.thread = loop.run_in_executor(self._threads, variables.run, _caught, type, context)
        result, error = await asyncio.shield(context.thread)
        if error is not None:
            raise error
        return result

    def _stopped(self, context: Context, error: BaseException) -> Ack:
        interrupted = isinstance(error, asyncio.CancelledError)
        if interrupted and context.cancelled() and not context.killed:
            raise Released from error
        if interrupted:
            said = "CancelledError: the handler cancelled itself"
        else:
            said = str(error) if isinstance(error, Failed) else describe(error)
        if context.killed:  # whoever cancelled it wants no other attempt, however this one ends
            why = None if interrupted else storable(said)
            return Ack(claim=context.claim, state="cancelled", error=why, meta=context.notes)
        return self._failed(context, said)

    def _failed(self, context: Context, error: str) -> Ack:
        job = context.job
        try:
            type = self._types.get(job.worker)
            backoff = type.backoff if type else None
            last = job.attempt >= job.max_attempts
            delay = None if last else seconds_until_retry(backoff, job)
        except Exception as spoilt:  # by a handler that wrote to its job
            log.error("job %s cannot be retried: %s", context.claim.id, name(spoilt))
            last, delay = True, None
        return Ack(
            claim=context.claim,
            state="discarded" if last else "retryable",
            error=storable(error),
            delay=delay,
            meta=context.notes,
        )


async def _whole(context: Context, attempt: Next) -> object:
    """Let what fails enqueue nothing, also where middleware goes on after that, or tries again."""
    before = len(context.children)
    try:
        return await attempt()
    except BaseException:
        del context.children[before:]
        raise


def _overdue(context: Context) -> None:
    """Say in the log, and so on the job's page, that an attempt goes on which nothing can stop."""
    log.warning(
        "job %s goes on %.0f s after its timeout: it takes long to clean up, or catches every CancelledError",
        context.job.id,
        HEEDS_WITHIN,
        extra={"job_id": context.job.id},
    )


async def _timed(context: Context, attempt: Next, longest: timedelta) -> object:
    context.deadline = datetime.now(UTC) + longest
    overdue = asyncio.get_running_loop().call_later(
        longest.total_seconds() + HEEDS_WITHIN, _overdue, context
    )
    try:
        async with asyncio.timeout(longest.total_seconds()) as limit:
            result = await attempt()
    except TimeoutError as error:
        if not limit.expired():
            raise
        context.cancel()
        raise Failed(f"TimeoutError: it ran longer than {longest}") from error
    finally:
        overdue.cancel()
    if limit.expired() and not isinstance(result, Outcome):
        raise Failed(
            f"TimeoutError: it ran longer than {longest}, and returned when it was cancelled"
        )
    return result


def _caught(type: JobType, context: Context) -> tuple[object, BaseException | None]:
    """Give what is raised as a value, for a Future takes no StopIteration."""
    try:
        return call(type, context), None
    except BaseException as error:
        return None, error
    finally:
        end_copy()


def _ended(context: Context, result: object) -> Ack:
    claim, notes = context.claim, context.notes
    if not isinstance(result, Outcome):
        return Ack(claim=claim, state="completed", meta=notes)
    if isinstance(result, Snooze):
        delay = result.delay.total_seconds()
        return Ack(claim=claim, state="scheduled", delay=delay, snoozed=True, meta=notes)
    if isinstance(result, Cancel):
        reason = storable(f"Cancelled: {result.reason}")
        return Ack(claim=claim, state="cancelled", error=reason, meta=notes)
    reason = storable(f"Discarded: {result.reason}")
    return Ack(claim=claim, state="discarded", error=reason, meta=notes)


def timeout_of(type: JobType, job: Job) -> timedelta | None:
    """Give how long a run may take: as its job type says, or its schedule, whichever is shorter."""
    seconds = job.meta.get("timeout")
    if seconds is None:
        return type.timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < YEAR:
        return type.timeout
    own = timedelta(seconds=seconds)
    return own if type.timeout is None else min(own, type.timeout)
