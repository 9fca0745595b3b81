"""A clock that nobody sets and that goes on while the machine sleeps."""

import time

SOURCE = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot() -> float:
    """Give seconds since the machine started."""
    return time.clock_gettime(SOURCE)
