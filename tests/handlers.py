"""Handlers that use what a worker offers them, for tests that run them in real workers."""

import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from quarterjack_worker import Context, Discard, job, middleware
from quarterjack_worker.handlers.middleware import Next

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Numbered:
    n: int = 0


@middleware
async def outer(context: Context, next: Next) -> Any:
    """Tell of the attempts of jobs that ask for it, and what the inner one made of them."""
    if "layers" not in context.job.tags:
        return await next()
    try:
        result = await next()
    except Exception as error:
        return Discard(f"outer saw {type(error).__name__}: {error}")
    return Discard(f"outer saw {result}")


@middleware
async def inner(context: Context, next: Next) -> Any:
    """Change what the handler returned."""
    result = await next()
    return f"inner of {result}" if "layers" in context.job.tags else result


@job("layered")
async def layered(args: Numbered) -> str:
    """Return a text."""
    return "the handler"


@job("constant", backoff=timedelta(minutes=1))
async def constant() -> None:
    """Fail."""
    raise ValueError("constant")


@job("stepped", backoff=[timedelta(minutes=1), timedelta(minutes=2)])
def stepped() -> None:
    """Fail."""
    raise ValueError("stepped")


@job("computed", backoff=lambda attempt: timedelta(hours=attempt))
async def computed() -> None:
    """Fail."""
    raise ValueError("computed")


@job("miscomputed", backoff=lambda attempt: timedelta(hours=1 // (attempt - 1)))
async def miscomputed() -> None:
    """Fail, and fail to say for how long to wait."""
    raise ValueError("miscomputed")


@job("block")
async def block(args: Numbered) -> None:
    """Block the event loop for as many seconds."""
    time.sleep(args.n)  # noqa: ASYNC251 - that is the point


@job("leave_in_a_task")
async def leave_in_a_task() -> None:
    """Try to end the process politely, from a task that nobody awaits."""

    async def leave() -> None:
        sys.exit(3)

    task = asyncio.create_task(leave())
    await asyncio.wait([task])


@job("stop_the_loop")
async def stop_the_loop() -> None:
    """Stop the loop on which everything runs."""
    asyncio.get_running_loop().stop()


@job("tell_what_is_inherited")
async def tell_what_is_inherited() -> object:
    """Say what a program that a handler starts would take for its own."""
    return Discard(f"{[each for each in os.environ if each.startswith('QUARTERJACK_WORKER')]}")


@job("leave_at_once")
async def leave_at_once(args: Numbered) -> None:
    """End the process as if all were well."""
    os._exit(args.n)


@job("ignore_signals")
async def ignore_signals(context: Context) -> None:
    """Have the process hear of no end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await context.pool.execute("CREATE TABLE ignored ()")
    await asyncio.Event().wait()


def return_twice() -> int | None:
    """Return from this process and from a copy of it; give how that ended."""
    copy = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) if copy else None


@job("return_twice", recorded=True)
async def return_twice_on_the_loop() -> int | None:
    """Return twice."""
    return return_twice()


@job("return_twice_in_thread", recorded=True)
def return_twice_in_thread() -> int | None:
    """Return twice."""
    return return_twice()


@job("close_stdout")
async def close_stdout() -> None:
    """Have the process say nothing more."""
    sys.stdout.close()


@job("forget_itself")
async def forget_itself(context: Context) -> None:
    """Log a line of no attempt."""
    context.job.attempted_at = None
    log.info("nowhere")


@job("deadline", timeout=timedelta(minutes=5))
def deadline(args: Numbered, context: Context) -> object:
    """Say which attempt this is and how long it may take."""
    assert context.deadline is not None
    left = context.deadline - context.job.attempted_at if context.job.attempted_at else None
    return Discard(
        f"attempt {context.attempt}, {left and round(left.total_seconds() / 60)} minutes"
    )


@job("until_released")
async def until_released(args: Numbered, context: Context) -> None:
    """Run until a table called released exists."""
    while not await context.pool.fetchval("SELECT to_regclass('released') IS NOT NULL"):
        await asyncio.sleep(0.05)


def tell(context: Context) -> None:
    """More than is kept, and what Postgres cannot hold."""
    for n in range(1_000):
        log.warning("line %d", n)
        context.progress(n / 10, f"{n} of 1000 \x00")
    log.info("the last line, \ud800")
    context.progress(100.5)


@job("tell")
async def tell_on_the_loop(args: Numbered, context: Context) -> None:
    """Tell from a task, and wait."""
    await asyncio.create_task(asyncio.to_thread(tell, context))
    await until_released(args, context)


@job("tell_in_thread")
def tell_in_thread(args: Numbered, context: Context) -> None:
    """Tell."""
    tell(context)


@job("tell_in_process", process=True)
def tell_in_process(args: Numbered, context: Context) -> None:
    """Tell."""
    tell(context)


@job("tell_nonsense", max_attempts=1)
async def tell_nonsense(args: Numbered, context: Context) -> None:
    """Give what is no percentage."""
    context.progress(float("nan"))


@job("last_words")
async def last_words(args: Numbered, context: Context) -> None:
    """Say something when the worker goes down."""
    log.warning("the first words")
    try:
        await until_released(args, context)
    finally:
        log.warning("the last words")


@job("give_up_quietly")
async def give_up_quietly(args: Numbered, context: Context) -> None:
    """Return when the worker goes down, as if the work were done."""
    log.warning("working quietly")
    with suppress(asyncio.CancelledError):
        await until_released(args, context)


@job("never_give_up", timeout=timedelta(seconds=0.1))
async def never_give_up() -> None:
    """Heed no cancellation."""
    log.warning("never giving up")
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
