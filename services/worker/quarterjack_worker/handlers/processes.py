"""The processes in which `process=True` handlers run, one job at a time in each.

Invariant: a process is idle, or one attempt holds it. An attempt that did not hear its end kills it, so no
attempt ever meets what another left behind. A process that dies takes its own attempt along, no other.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from quarterjack.queries.journals import Journal
from quarterjack_worker import deaths
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.failures import Failed, name
from quarterjack_worker.handlers.job_types import JobType
from quarterjack_worker.handlers.messages import (
    Answer,
    Ask,
    Begin,
    Ended,
    Import,
    Ping,
    Ready,
    Stop,
    pack,
    read,
)
from quarterjack_worker.handlers.parents import read_page

log = logging.getLogger(__name__)

CHILD = "quarterjack_worker.handlers.child"
READY_WITHIN = 60.0
KILL_AFTER = 1.0
ENDS = (-signal.SIGTERM, -signal.SIGINT)


class Processes:
    """Up to `most` processes, started when they are needed and used again.

    Each imports `modules`, in their order, and those in which the handlers are written.
    """

    def __init__(
        self, types: Mapping[str, JobType], most: int, modules: Sequence[str] = ()
    ) -> None:
        self._types = types
        self._imported = modules
        self._room = asyncio.Semaphore(most)
        self._idle: list[Process] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator["Process"]:
        """Hold a process, once there is one free."""
        async with self._room:
            process = await self._find_idle() or await Process.start(self._modules())
            try:
                yield process
            finally:
                if process.idle:
                    self._idle.append(process)
                else:
                    process.kill()

    async def close(self) -> None:
        """End those that are idle; the others end with their attempts."""
        while self._idle:
            await self._idle.pop().end()

    async def _find_idle(self) -> "Process | None":
        while self._idle:
            process = self._idle.pop()
            if await process.answers():
                return process
        return None

    def _modules(self) -> list[str]:
        written_in = {type.handler.__module__ for type in self._types.values()}
        return [*self._imported, *sorted(written_in.difference(self._imported))]


class Process:
    """One process. `idle` says that it waits for a job."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.idle = False
        self._process = process
        self._reader = reader
        self._writer = writer
        self._next: asyncio.Task[Any] | None = None

    @classmethod
    async def start(cls, modules: list[str]) -> "Process":
        """Start one that has imported the modules; Failed if it cannot.

        What its session is told may still reach it at its very begin: then another is started.
        """
        ours, theirs = socket.socketpair()
        theirs.setblocking(True)  # which a setdefaulttimeout() takes from it, there too
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                CHILD,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # what its handler starts is killed with it; signals to ours pass it by
                stdin=asyncio.subprocess.DEVNULL,
            )
        started = cls(process, *await asyncio.open_connection(sock=ours))
        try:
            async with asyncio.timeout(READY_WITHIN):
                await started._send(Import(path=sys.path, modules=modules))
                started.idle = isinstance(await started._receive(), Ready)
        except (OSError, EOFError) as error:
            how = await started._obituary()
            if process.returncode in ENDS:
                return await cls.start(modules)
            raise Failed(f"ProcessDied: a process for it {how} before it was ready") from error
        finally:
            if not started.idle:
                started.kill()
        return started

    async def answers(self) -> bool:
        """Say if it is there: one that was killed while it waited would take the next job along. It is ended if not."""
        self.idle = False
        try:
            async with asyncio.timeout(KILL_AFTER):
                await self._send(Ping())
                while not isinstance(await self._receive(), Ready):
                    pass  # the last job's journal
            self.idle = True
        except (OSError, EOFError):
            log.info("a process for jobs is gone, or does not answer; another takes its place")
        finally:
            if not self.idle:
                self.kill()
        return self.idle

    async def run(self, context: Context) -> object:
        """Run a job: what its handler returned. Failed if it failed, or the process died of it."""
        self.idle = False
        begin = Begin(job=context.job, claim=context.claim, deadline=context.deadline)
        try:
            await self._send(begin)
            ended = await self._until_ended(context)
        except asyncio.CancelledError:
            await self._stop(context)
            raise
        except (OSError, EOFError) as error:
            how = await self._obituary()
            raise Failed(f"ProcessDied: the process that ran it {how}") from error
        context.notes |= ended.notes
        context.children += ended.children
        if ended.error is not None:
            raise Failed(ended.error)
        return ended.outcome

    def kill(self) -> None:
        """End it at once, with whatever its handler has started."""
        if self._next is not None:
            self._next.cancel()
        self._writer.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # macOS does not signal a zombie
                self._process.kill()
                os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End it at once, and wait until it is gone."""
        self.kill()
        await self._process.wait()

    async def _stop(self, context: Context) -> None:
        """Ask the handler to stop; one that does not within a second is killed by whoever holds it."""
        with suppress(OSError, EOFError):
            async with asyncio.timeout(KILL_AFTER):
                await self._send(Stop())
                await self._until_ended(context)

    async def _until_ended(self, context: Context) -> Ended:
        while True:
            message = await self._receive()
            if isinstance(message, Journal):
                context.told(context.claim, partial(_same, message))
            if isinstance(message, Ask):
                await self._send(await _answer(context, message))
            if isinstance(message, Ended):
                self.idle = True
                return message

    async def _send(self, message: object) -> None:
        self._writer.write(pack(message))
        await self._writer.drain()

    async def _receive(self) -> Any:
        """Give the next message; one that was half read when the caller was cancelled is not lost."""
        if self._next is None:
            self._next = asyncio.create_task(read(self._reader))
        message = await asyncio.shield(self._next)
        self._next = None
        return message

    async def _obituary(self) -> str:
        try:
            async with asyncio.timeout(KILL_AFTER):
                return deaths.how(await self._process.wait())
        except TimeoutError:
            self.kill()
            return "stopped answering"


async def _answer(context: Context, asked: Ask) -> Answer:
    try:
        parents = await read_page(context.pool, context.job.id, asked.beyond)
    except Exception as error:  # the database's, which its handler hears as one in a thread would
        return Answer(number=asked.number, error=name(error))
    return Answer(number=asked.number, parents=parents)


def _same(journal: Journal) -> Journal:
    return journal
