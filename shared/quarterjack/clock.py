"""A clock that nobody sets and that goes on while the machine sleeps, and how to wait: a while at most, or together."""

import asyncio
import time
from collections.abc import Awaitable

SOURCE = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
BEGUN = time.monotonic()
ROUNDED = 0.001
"""What a timer may come too early by."""


def boot() -> float:
    """Give seconds since the machine started."""
    return time.clock_gettime(SOURCE)


def until_next(seconds: float) -> float:
    """Give for how long to wait for the next of the instants that lie so far apart, counted from this process's begin.

    All of a loop that waits so wakes at once: to wake an idle processor costs more than most of what is done then.
    """
    return seconds - (time.monotonic() - BEGUN) % seconds + ROUNDED


async def within(seconds: float | None, awaited: Awaitable[object]) -> bool:
    """Wait for so long at most, or for ever; say if it came."""
    try:
        async with asyncio.timeout(seconds):
            await awaited
    except TimeoutError:
        return False
    return True
