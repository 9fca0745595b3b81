"""Keep the services running as Kubernetes would: start, restart with backoff, stop in order."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from quarterjack.clock import within

FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
STEADY_AFTER = 30.0
LAST_WORDS = 0.3
PR_SET_PDEATHSIG = 1
COLOURS = ("36", "33", "35", "32", "34", "31")
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

Say = Callable[[str, str], None]


def next_delay(delay: float, lived: float) -> float:
    """Double the wait after each quick death; begin anew after a steady life. Seconds."""
    return FIRST_DELAY if lived >= STEADY_AFTER else min(delay * 2, LONGEST_DELAY)


@dataclass(slots=True, kw_only=True)
class Service:
    """One service process, started again whenever it ends; its children die with it."""

    role: str
    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    grace: float = 4.0
    pid: int | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, say: Say, changed: Callable[[], None]) -> None:
        """Start it again and again until `stop`; each line it writes is said with its name."""
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY / 2
        try:
            while not self._stopping.is_set():
                began = loop.time()
                code = await self._live(say, changed)
                if self._stopping.is_set():
                    return
                delay = next_delay(delay, loop.time() - began)
                say(self.name, f"ended with {code}; starting again in {delay:.1f} s")
                await first_of(self._stopping.wait(), asyncio.sleep(delay))
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when its grace is over."""
        self._stopping.set()
        await self._ended.wait()

    async def _live(self, say: Say, changed: Callable[[], None]) -> int | None:
        async with _pipe() as (reader, output):
            process = await self._start(output)
            os.close(output)
            self.pid = process.pid
            changed()
            relay = asyncio.create_task(self._relay(reader, say))
            try:
                await first_of(process.wait(), self._stopping.wait())
                await self._terminate(process)
            finally:
                _kill_session(process.pid)
                self.pid = None
                changed()
                await asyncio.wait([relay], timeout=LAST_WORDS)
                relay.cancel()
        return process.returncode

    async def _terminate(self, process: Process) -> None:
        if process.returncode is not None:
            return
        process.terminate()
        if not await within(self.grace, process.wait()):
            process.kill()
            await process.wait()

    async def _start(self, output: int) -> Process:
        return await asyncio.create_subprocess_exec(
            *self.command,
            env=dict(self.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()) if LIBC else None,
        )

    async def _relay(self, reader: asyncio.StreamReader, say: Say) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                say(self.name, "(a line too long to show)")
                continue
            if not line:
                return
            say(self.name, line.decode(errors="replace").rstrip())


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """A pipe for a process to write to; asyncio's own would wait for its grandchildren as well."""
    end, output = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(end, "rb", buffering=0)
    )
    try:
        yield reader, output
    finally:
        transport.close()


def _kill_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _die_with(parent: int) -> Callable[[], None]:
    """Ask the kernel for SIGTERM when the supervisor is gone, also by SIGKILL."""

    def ask() -> None:
        assert LIBC is not None
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask


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
        announce(f"{prefix} | {line}")


def announce(text: str) -> None:
    """Print; a reader that went away is no reason to stop the services."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


async def stop_in_order(services: Sequence[Service], order: Sequence[str]) -> None:
    """Stop role after role; within a role all at once."""
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
