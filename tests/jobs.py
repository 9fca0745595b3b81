"""Handlers that tests run in real workers."""

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from datetime import timedelta

from quarterjack_worker import Cancel, Context, Discard, Snooze, job


@dataclass(frozen=True)
class Numbered:
    n: int = 0


@job("count")
async def count(args: Numbered) -> None:
    """Do nothing."""


@job("wait_for_release", timeout=timedelta(minutes=5))
async def wait_for_release(args: Numbered, context: Context) -> None:
    """Run until a table called released exists."""
    while not await context.pool.fetchval("SELECT to_regclass('released') IS NOT NULL"):
        await asyncio.sleep(0.05)


@job("die", max_attempts=2)
async def die(args: Numbered) -> None:
    """Take the whole process down."""
    os._exit(7)


@job("in_thread")
def in_thread(args: Numbered) -> None:
    """Work in a thread."""
    time.sleep(0.01)


@job("snooze")
async def snooze() -> Snooze:
    """Not yet."""
    return Snooze(timedelta(hours=1))


@job("cancel")
async def cancel() -> Cancel:
    """No longer wanted."""
    return Cancel("nobody wants it")


@job("discard")
def discard() -> Discard:
    """Hopeless."""
    return Discard("it is hopeless")


@job("fail", max_attempts=1)
async def fail() -> None:
    """Fail with what JSON in Postgres cannot hold."""
    raise ValueError("a NUL \x00 and half a pair \ud800")


class Unsayable:
    """A reason that fails when it is read."""

    def __str__(self) -> str:
        raise RuntimeError("not a word")


@job("discard_unsaid", max_attempts=1)
async def discard_unsaid() -> Discard:
    """Give a reason that cannot be read."""
    return Discard(Unsayable())  # type: ignore[arg-type] # what a program may do


@job("snooze_for_ever", max_attempts=1)
async def snooze_for_ever() -> Snooze:
    """Not before the end of the calendar."""
    return Snooze(timedelta(days=4_000_000))


@job("leave", max_attempts=1)
async def leave() -> None:
    """Try to end the process politely."""
    sys.exit(3)


class Outside(BaseException):
    """What other libraries raise past every `except Exception`."""


@job("outside", max_attempts=1)
async def outside() -> None:
    """Raise what is no Exception."""
    raise Outside("past everything")


@job("exhausted_iterator", max_attempts=1)
def exhausted_iterator() -> None:
    """Take one too many."""
    next(iter(()))


@job("forgotten_await", max_attempts=1)
def forgotten_await() -> object:
    """Call a coroutine function and return what it gave."""
    return fail()


@job("forgotten_await_on_the_loop", max_attempts=1)
async def forgotten_await_on_the_loop() -> object:
    """Return what it should have awaited."""
    return fail()


@job("too_slow", max_attempts=1, timeout=timedelta(seconds=0.1))
async def too_slow() -> None:
    """Never end."""
    await asyncio.Event().wait()


@job("too_slow_in_thread", max_attempts=1, timeout=timedelta(seconds=0.1))
def too_slow_in_thread(args: dict[str, object], context: Context) -> None:
    """Go on until told to stop."""
    while not context.cancelled():
        time.sleep(0.01)


@job("write_once")
async def write_once(args: Numbered, context: Context) -> None:
    """Write a row together with the completion, once a table called released exists."""
    await wait_for_release(args, context)
    async with context.transaction() as connection:
        await connection.execute("INSERT INTO effects (n) VALUES ($1)", args.n)
