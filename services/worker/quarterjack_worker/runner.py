"""Run one job to its outcome: whatever a handler does becomes an ack, and nothing of it escapes."""

import asyncio
import inspect
import re
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from quarterjack.database import Pool
from quarterjack.model import Job
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Claim
from quarterjack_worker.backoff import backoff
from quarterjack_worker.context import Context
from quarterjack_worker.outcomes import Cancel, Discard, Snooze
from quarterjack_worker.registry import JobType

LONGEST_ERROR = 20_000
YEAR = 366 * 86_400.0
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Released(Exception):
    """The job did not end here: it goes back as if it had not been claimed."""


def begin(job: Job, type: JobType | None, pool: Pool) -> Context:
    """Give what a handler of a claimed job may know and do; its time runs from now on."""
    assert job.attempted_at is not None
    limit = timeout_of(type, job) if type else None
    return Context(
        job=job,
        claim=Claim(
            id=job.id,
            attempt=job.attempt,
            attempted_at=job.attempted_at,
            producer=job.attempted_by[1],
        ),
        pool=pool,
        deadline=datetime.now(UTC) + limit if limit else None,
    )


class Runner:
    """Runs handlers: coroutines on this loop, functions in threads of its own."""

    def __init__(self, types: Mapping[str, JobType], threads: ThreadPoolExecutor) -> None:
        self._types = types
        self._threads = threads

    async def run(self, job: Job, context: Context) -> Ack | None:
        """Give the ack of this execution; None if the handler's transaction has written it.

        Raises Released when the worker itself cancelled it.
        """
        try:
            result = await self._call(job, context)
        except asyncio.CancelledError as error:
            if context.killed:
                return Ack(claim=context.claim, state="cancelled", meta=context.notes())
            if context.cancelled:
                raise Released from error
            return self._failed(job, context, "CancelledError: the handler cancelled itself")
        except Failed as failure:
            return self._failed(job, context, str(failure))
        except BaseException as error:
            if context.completed:
                return None
            return self._failed(job, context, _describe(error))
        return None if context.completed else self._ended(job, context, result)

    async def _call(self, job: Job, context: Context) -> object:
        type = self._types.get(job.worker)
        if type is None:
            raise Failed(
                f"UnknownWorker: this worker knows no job named {job.worker!r:.130}; "
                "--import the module that has it, or give it a queue of its own"
            )
        arguments = [_read_args(type, job), context][: type.parameters]
        longest = timeout_of(type, job)
        try:
            async with asyncio.timeout(longest.total_seconds() if longest else None) as limit:
                if type.is_async:
                    return await type.handler(*arguments)
                result = await self._in_thread(type, context, arguments)
        except TimeoutError as error:
            if not limit.expired():
                raise
            context.cancel()
            raise Failed(f"TimeoutError: it ran longer than {longest}") from error
        if inspect.isawaitable(result):
            raise Failed("TypeError: it returned something to await: make the handler async def")
        return result

    async def _in_thread(self, type: JobType, context: Context, arguments: list[Any]) -> object:
        """Run in a thread; what it raises travels as a value, for a Future takes no StopIteration."""

        def call() -> tuple[object, BaseException | None]:
            try:
                return type.handler(*arguments), None
            except BaseException as error:
                return None, error

        loop = asyncio.get_running_loop()
        context.thread = loop.run_in_executor(self._threads, call)
        result, error = await asyncio.shield(context.thread)
        if error is not None:
            raise error
        return result

    def _ended(self, job: Job, context: Context, result: object) -> Ack:
        notes = context.notes()
        if isinstance(result, Snooze):
            return Ack(
                claim=context.claim,
                state="scheduled",
                delay=result.delay.total_seconds(),
                snoozed=True,
                meta=notes,
            )
        if isinstance(result, Cancel):
            reason = _storable(f"Cancelled: {result.reason}")
            return Ack(claim=context.claim, state="cancelled", error=reason, meta=notes)
        if isinstance(result, Discard):
            reason = _storable(f"Discarded: {result.reason}")
            return Ack(claim=context.claim, state="discarded", error=reason, meta=notes)
        return Ack(claim=context.claim, state="completed", meta=notes)

    def _failed(self, job: Job, context: Context, error: str) -> Ack:
        last = job.attempt >= job.max_attempts
        return Ack(
            claim=context.claim,
            state="discarded" if last else "retryable",
            error=_storable(error),
            delay=None if last else backoff(job.attempt, job.max_attempts),
            meta=context.notes(),
        )


def timeout_of(type: JobType, job: Job) -> timedelta | None:
    """Give how long a run may take: as its job type says, or its schedule, whichever is shorter."""
    seconds = job.meta.get("timeout")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < YEAR:
        return type.timeout
    own = timedelta(seconds=seconds)
    return own if type.timeout is None else min(own, type.timeout)


class Failed(Exception):
    """The attempt failed; the message is its error."""


def _read_args(type: JobType, job: Job) -> object:
    if not isinstance(job.args, dict):
        raise Failed(
            f"ArgsInvalid: args are a {_kind(job.args)} that this worker cannot read; "
            "a job's args are a JSON object"
        )
    try:
        return type.args.validate_python(job.args)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc'])) or 'args'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise Failed("ArgsInvalid: " + "; ".join(lines[:20])) from error
    except Exception as error:
        raise Failed(f"ArgsInvalid: {_describe(error)}") from error


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _describe(error: BaseException) -> str:
    """Give "Type: message" and the traceback; an exception that cannot describe itself is no obstacle."""
    try:
        lines = traceback.format_exception(error)
        return f"{type(error).__name__}: {error}\n\n{''.join(lines)}"
    except BaseException:
        return f"{type(error).__name__}: (its message could not be read)"


def _storable(text: str) -> str:
    """Cut to size, without what JSON in Postgres cannot hold."""
    clean = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    if len(clean) <= LONGEST_ERROR:
        return clean
    half = LONGEST_ERROR // 2
    return f"{clean[:half]}\n… {len(clean) - LONGEST_ERROR} characters left out …\n{clean[-half:]}"
