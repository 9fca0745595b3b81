"""Handlers that enqueue, write or return something with their completion, for tests that run them in real workers."""

import threading
from dataclasses import dataclass
from datetime import timedelta

from quarterjack.errors import JobInvalid
from quarterjack_worker import Context, Discard, job
from tests.handlers import Numbered, until_released


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
