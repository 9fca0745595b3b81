"""The parent of a worker process: it sees a death at once, says it with the jobs, and starts another life.

It imports no job and needs no database while all is well. A handler that takes the process down costs a
second, not the 5 s after which a silent worker counts as dead; one that holds the interpreter costs no job.
"""

import asyncio
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

from quarterjack_worker import deaths, marks
from quarterjack_worker.settings import CONDEMNED, STOPPED, Settings
from quarterjack_worker.stand_in import LONGEST, StandIn

log = logging.getLogger(__name__)

LIFE, TURNS, MARKS = (
    "QUARTERJACK_WORKER_LIFE",
    "QUARTERJACK_WORKER_TURNS",
    "QUARTERJACK_WORKER_MARKS",
)
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
STEADY_AFTER = 30.0
GIVE_UP, AGAIN, LOOKS = 10.0, 0.25, 4
LAST_STEPS = 14.0
"""Seconds that an orderly end takes at most, beyond the grace of its jobs."""
MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(128 * 1024)}
"""Glibc gives back what is free at the end of its heap, from this size on; left alone it comes to keep many MB."""


def supervise(settings: Settings, arguments: Sequence[str], node: str) -> int:
    """Keep one worker process alive until SIGTERM; an exit code. A first one that cannot begin is not repeated."""
    parent = Supervisor(settings, arguments, node)
    signal.signal(signal.SIGTERM, parent.stop)
    signal.signal(signal.SIGINT, parent.stop)
    return parent.run()


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a process died, in words; `own_fault` if one of its jobs may have done that, and may do it again."""

    how: str
    own_fault: bool


class Supervisor:
    """Starts lives of the worker process, one after the other; none may hold its interpreter for `longest` seconds."""

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        node: str,
        *,
        longest: float = LONGEST,
    ) -> None:
        self._settings = settings
        self._command = [sys.executable, "-m", "quarterjack_worker", *arguments]
        self._node = node
        self._longest = longest
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._overdue = False

    def stop(self, *_: object) -> None:
        """Pass the request to end on to the child."""
        self._stopping = True
        for each in (self._stops, self._ends):
            each.put(None)  # of all that wakes who waits, a signal may interrupt only this anywhere
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def run(self) -> int:
        """Start one life after another until told to stop; the exit code."""
        delay, ever = FIRST_DELAY, False
        threading.Thread(target=self._see_it_end, name="end", daemon=True).start()
        while not self._stopping:
            since, life = time.monotonic(), uuid4()
            with marks.memory() as memory:
                code, began, death = self._live(life, memory)
                waited = marks.waiting(memory)
            ever = ever or began
            ended = self._stopping and (code == STOPPED or self._overdue)
            if began:
                asyncio.run(settle(self._settings, life, None if ended else death, waited))
            if ended:
                return 0
            if code >= 0 and not ever:
                return 0 if self._stopping else code
            delay = FIRST_DELAY if time.monotonic() - since > STEADY_AFTER else delay
            if not self._stopping:
                log.error("%s; starting again in %.1f s", death.how, delay)
                with suppress(queue.Empty):
                    self._stops.get(timeout=delay)
            delay = min(delay * 2, LONGEST_DELAY)
        return 0

    def _see_it_end(self) -> None:
        """Kill a process that does not end when it is told to: a handler may ignore signals, or hold the event loop."""
        self._ends.get()
        longest = self._settings.grace + LAST_STEPS
        time.sleep(longest)
        if self._child is not None and self._child.poll() is None:
            self._overdue = True
            log.error(
                "the worker process of %s does not end, in %g s: killing it", self._node, longest
            )
            self._child.kill()

    def _live(self, life: UUID, memory: int | None) -> tuple[int, bool, Death]:
        """Give the exit code, whether the process had begun, and how it ended."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._child = self._start(life, writer, memory)
        os.close(writer)
        if self._stopping:
            self._child.terminate()
        stand_in = StandIn(
            self._child.pid,
            list(self._settings.producers(life).values()),
            self._node,
            draining=lambda: self._stopping,
            longest=self._longest,
        )
        with os.fdopen(reader, "rb", buffering=0) as turns:
            began = bool(turns.read(1))
            if began:
                stand_in.watch(reader)
        code = self._child.wait()
        how, own_fault = deaths.how(code), deaths.by_its_own_fault(code)
        if not began:
            how += " before it could begin"
        elif stand_in.gave_up:
            how = f"held its interpreter for more than {self._longest:g} s and was killed"
            own_fault = True
        elif code == CONDEMNED:
            how += ", as one does that was silent and declared dead"
            own_fault = False
        said = f"the worker process of {self._node} {how}"
        return code, began, Death(how=said, own_fault=own_fault)

    def _start(self, life: UUID, writer: int, memory: int | None) -> subprocess.Popen[bytes]:
        """Start the process, which shows its turns on `writer`, and in `memory` which jobs have begun."""
        told = {
            LIFE: str(life),
            TURNS: str(writer),
            MARKS: "" if memory is None else str(memory),
            "QUARTERJACK_NODE": self._node,
        }
        return subprocess.Popen(  # noqa: S603 - it starts itself
            self._command,
            env=MEMORY | os.environ | told,
            pass_fds=[writer] if memory is None else [writer, memory],
            preexec_fn=deaths.die_with_parent,
        )


async def settle(
    settings: Settings, life: UUID, death: Death | None, waited: Callable[[int], bool]
) -> None:
    """Give back what a life left behind: after an orderly end unharmed, otherwise with the cause of death.

    What only `waited` goes back unharmed in any case.

    Whatever cannot be given back in time, because the database is away or somebody holds it, the scheduler rescues
    later. A death is not waited for as long as an end: the next life is waiting.
    """
    from quarterjack.database import LOST
    from quarterjack.errors import SettingInvalid

    uuids = list(settings.producers(life).values())
    looks = LOOKS if death else sys.maxsize
    try:
        async with asyncio.timeout(GIVE_UP):
            while looks:
                try:
                    if not await _give_back(uuids, death, waited):
                        return
                    looks -= 1
                except (*LOST, SettingInvalid) as error:
                    log.warning("could not give back what was running: %s; trying again", error)
                await asyncio.sleep(AGAIN)
    except TimeoutError:
        log.warning("gave up giving back what was running: the scheduler will rescue it")


async def _give_back(uuids: list[UUID], death: Death | None, waited: Callable[[int], bool]) -> bool:
    """Give back what nobody holds; True if something is left."""
    from quarterjack.asking import answered
    from quarterjack.database import connect, from_environment
    from quarterjack.queries import claims, jobs, producers

    connection = await connect(from_environment(), name="quarterjack-worker supervisor")

    async def give_back() -> bool:
        held = await claims.held_by(connection, producers=uuids)
        unharmed = [claim for claim in held if death is None or waited(claim.id)]
        queues = await claims.release(connection, claims=unharmed)
        if death is not None:
            reason = f"WorkerDied: {death.how} while it ran this job"
            buried = await producers.bury(
                connection, uuids=uuids, reason=reason, apart=death.own_fault
            )
            queues += [job.queue for job in buried if job.state == "available"]
        if queues:
            await jobs.ring(connection, sorted(set(queues)))
        left = bool(await claims.held_by(connection, producers=uuids))
        if death is None and not left:
            await producers.leave(connection, uuids=uuids)
        return left

    try:
        return await answered(connection, give_back(), GIVE_UP)
    finally:
        connection.terminate()
