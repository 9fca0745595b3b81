"""Keep the services running as Kubernetes would: start, restart with backoff, stop in order."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
STEADY_AFTER = 30.0
PR_SET_PDEATHSIG = 1
COLOURS = ("36", "33", "35", "32", "34", "31")


def next_delay(delay: float, lived: float) -> float:
    """Double the wait after each quick death; begin anew after a steady life. Seconds."""
    return FIRST_DELAY if lived >= STEADY_AFTER else min(delay * 2, LONGEST_DELAY)


@dataclass(slots=True, kw_only=True)
class Service:
    """One service process, started again whenever it ends."""

    role: str
    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    grace: float = 4.0
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False
    starts: int = field(default=0)

    @property
    def pid(self) -> int | None:
        alive = self.process is not None and self.process.returncode is None
        return self.process.pid if alive and self.process else None

    async def run(self, say: Callable[[str, str], None], changed: Callable[[], None]) -> None:
        """Start it again and again until `stop`; each line it writes is said with its name."""
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY / 2
        while not self.stopping:
            began = loop.time()
            self.process = await self._start()
            self.starts += 1
            changed()
            await self._relay(self.process, say)
            code = await self.process.wait()
            changed()
            if self.stopping:
                return
            delay = next_delay(delay, loop.time() - began)
            say(self.name, f"ended with {code}; starting again in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when its grace is over."""
        self.stopping = True
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.grace):
                await self.process.wait()
        except TimeoutError:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command,
            env=dict(self.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    async def _relay(
        self, process: asyncio.subprocess.Process, say: Callable[[str, str], None]
    ) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                say(self.name, "(a line too long to show)")
                continue
            if not line:
                return
            say(self.name, line.decode(errors="replace").rstrip())


LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor is gone, also by SIGKILL."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Voice:
    """Writes prefixed lines, in colour on a terminal."""

    def __init__(self, names: Sequence[str]) -> None:
        self._width = max(len(name) for name in names)
        self._colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def __call__(self, name: str, line: str) -> None:
        prefix = name.ljust(self._width)
        if self._coloured:
            prefix = f"\x1b[{self._colours.get(name, '37')}m{prefix}\x1b[0m"
        print(f"{prefix} | {line}", flush=True)


async def stop_in_order(services: Sequence[Service], order: Sequence[str]) -> None:
    """Stop role after role; within a role all at once."""
    for service in services:
        service.stopping = True
    for role in order:
        await asyncio.gather(*(each.stop() for each in services if each.role == role))


async def first_of(*waits: Awaitable[object]) -> None:
    """Wait until one is done, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
