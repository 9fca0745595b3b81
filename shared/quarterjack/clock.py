"""A clock that nobody sets and that goes on while the machine sleeps, and how to wait for a while at most."""

import asyncio
import time
from collections.abc import Awaitable

SOURCE = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot() -> float:
    """Give seconds since the machine started."""
    return time.clock_gettime(SOURCE)


async def within(seconds: float, awaited: Awaitable[object]) -> bool:
    """Wait for so long at most; say if it came."""
    try:
        async with asyncio.timeout(seconds):
            await awaited
    except TimeoutError:
        return False
    return True
