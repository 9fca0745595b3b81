"""Handlers that use what a worker offers them, for tests that run them in real workers."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from quarterjack.errors import JobInvalid
from quarterjack_worker import Cancel, Context, Discard, Snooze, job, middleware
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


@dataclass(frozen=True)
class Marked:
    """`mark` is a file that shows that the job has begun, and holds its process."""

    mark: Path


def show(args: Marked) -> None:
    whole = args.mark.with_suffix(".new")
    whole.write_text(str(os.getpid()))
    whole.rename(args.mark)


@job("compute", process=True)
def compute(args: Marked) -> None:
    """Show the process."""
    show(args)


@job("crash", process=True, max_attempts=1)
def crash() -> None:
    """Take the process down, as a segmentation fault would."""
    os.kill(os.getpid(), signal.SIGKILL)


@job("compute_until_released", process=True)
def compute_until_released(args: Marked) -> None:
    """Run until a file called released stands beside the mark."""
    show(args)
    while not args.mark.with_name("released").exists():
        time.sleep(0.02)


@job("spin", process=True, max_attempts=1, timeout=timedelta(seconds=0.5))
def spin(args: Marked) -> None:
    """Heed nothing."""
    show(args)
    while True:
        pass


@job("heed", process=True, max_attempts=1, timeout=timedelta(seconds=0.5))
def heed(args: Marked, context: Context) -> None:
    """Stop when asked to."""
    show(args)
    while not context.cancelled:
        time.sleep(0.01)


@job("snooze_in_process", process=True)
def snooze_in_process(args: Numbered, context: Context) -> object:
    """Warn, and come back."""
    context.warn(f"attempt {context.attempt} comes back")
    return Snooze(timedelta(hours=1))


@job("unpicklable", process=True, max_attempts=1)
def unpicklable() -> object:
    """Return what cannot leave the process."""
    return Cancel(threading.Lock())  # type: ignore[arg-type] # that is the point


@job("leave_process", process=True, max_attempts=1)
def leave_process() -> None:
    """End the process politely, which ends only the attempt."""
    sys.exit(3)


@job("stop_iterating", process=True, max_attempts=1)
def stop_iterating(args: Numbered, context: Context) -> None:
    """Reach for the database, which is not there."""
    assert context.pool


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


@job("child", queue="elsewhere", priority=3, max_attempts=4, tags=["born"])
async def child(args: Numbered) -> None:
    """Nobody works on its queue."""


@job("fan_out")
async def fan_out(args: Numbered, context: Context) -> None:
    """Enqueue two, one by its handler and one by its name."""
    context.enqueue(child, args)
    context.enqueue("child", {"n": args.n}, priority=1)


@job("fan_out_in_thread")
def fan_out_in_thread(args: Numbered, context: Context) -> None:
    """Enqueue two."""
    context.enqueue(child, args)
    context.enqueue("child", {"n": args.n}, priority=1)


@job("fan_out_in_process", process=True)
def fan_out_in_process(args: Numbered, context: Context) -> None:
    """Enqueue two."""
    fan_out_in_thread(args, context)


@job("fan_out_and_fail", max_attempts=1)
async def fan_out_and_fail(args: Numbered, context: Context) -> None:
    """Enqueue two, and fail."""
    await fan_out(args, context)
    raise ValueError("after all")


@job("fan_out_badly", max_attempts=1)
async def fan_out_badly(args: Numbered, context: Context) -> object:
    """Enqueue what cannot be a job, in every way."""
    said = []
    for wrong in ({"n": "x"}, {"n": 1, "more": "\x00"}, [1], {"n": 1, "more": "x" * 20_000_000}):
        try:
            context.enqueue(child, wrong)
        except JobInvalid as error:
            said.append(str(error))
    return Discard(" | ".join(said))


@job("fan_out_when_released")
async def fan_out_when_released(args: Numbered, context: Context) -> None:
    """Enqueue two, and end once a table called released exists."""
    await fan_out(args, context)
    await until_released(args, context)


@job("settle")
async def settle(args: Numbered, context: Context) -> None:
    """Write, enqueue and record in one transaction, and try to enqueue after it."""
    context.enqueue(child, args)
    async with context.transaction(result={"n": args.n}) as connection:
        await connection.execute("INSERT INTO effects (n) VALUES ($1)", args.n)
    try:
        context.enqueue(child, args)
    except JobInvalid:
        await context.pool.execute("INSERT INTO effects (n) VALUES (-1)")


@dataclass(frozen=True)
class Found:
    """A result."""

    lengths: list[timedelta]


@job("find", recorded=True)
async def find(args: Numbered) -> Found:
    """Return an object of its own type."""
    return Found(lengths=[timedelta(seconds=args.n)])


@job("find_in_process", recorded=True, process=True)
def find_in_process(args: Numbered) -> Found:
    """Return an object of its own type."""
    return Found(lengths=[timedelta(seconds=args.n)])


@job("find_too_much", recorded=True)
def find_too_much(args: Numbered) -> str:
    """Return more than is recorded."""
    return "x" * args.n


@job("find_junk", recorded=True)
async def find_junk() -> object:
    """Return what is no JSON."""
    return object()


@job("find_junk_in_process", recorded=True, process=True)
def find_junk_in_process() -> object:
    """Return what is no JSON."""
    return threading.Lock()


@job("find_unreadable", recorded=True)
async def find_unreadable() -> object:
    """Return what raises when it is read."""
    return b"\xff"


@job("find_unreadable_in_process", recorded=True, process=True)
def find_unreadable_in_process() -> object:
    """Return what holds itself."""
    found: list[object] = []
    found.append(found)
    return found


@job("find_nothing", recorded=True)
async def find_nothing() -> None:
    """Return nothing."""


@job("return_junk")
async def return_junk() -> object:
    """Return what nobody asked for."""
    return threading.Lock()
