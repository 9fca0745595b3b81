"""What the engines' programs share. Each runs as `PROGRAM VERB URL [NUMBER …]` in an environment of its own.

Verbs: `make` installs the tables, `bulk N` enqueues that many no-ops at once, `singles N CLIENTS` one by one,
`trickle N` one now and then, each with the time of its insert, `work CONCURRENCY` runs jobs until SIGTERM.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable

BEATS = 0.04
working = False

try:
    import uvloop
except ImportError:
    uvloop = None


def ran(at: float | None) -> None:
    """Note that a handler has begun: the first one, or how long after its insert."""
    global working
    if at is not None:
        print(f"late {time.time() - at:.6f}", flush=True)
    elif not working:
        working = True
        print("first", flush=True)


async def singles(insert: Callable[[], Awaitable[object]], many: int, clients: int) -> float:
    """Insert from so many clients at once, each waiting for its answers; the seconds it took."""

    async def client() -> None:
        for _ in range(many // clients):
            await insert()

    await asyncio.gather(*(client() for _ in range(clients)))
    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.monotonic() - began


async def trickle(insert: Callable[[float], Awaitable[object]], many: int) -> None:
    """Insert one after the other with pauses, each with the time just before."""
    for _ in range(many):
        await insert(time.time())
        await asyncio.sleep(BEATS)


async def stopped() -> None:
    """Wait for SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


def run(**verbs: Callable[..., Awaitable[float | None]]) -> None:
    """Run the verb of the command line, on uvloop where there is one; print the seconds it measured."""
    verb, url, *numbers = sys.argv[1:]
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None)
    with runner:
        seconds = runner.run(verbs[verb](url, *map(int, numbers)))
    if seconds is not None:
        print(f"seconds {seconds:.6f}", flush=True)
