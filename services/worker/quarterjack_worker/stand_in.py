"""Stands in for the heartbeat of a worker process whose interpreter is held: by a regular expression, a C extension.

That stops every thread of the process, also the one that beats, and this one shows its turns on a pipe. When two
seconds bring none, and yet the process uses the CPU, its supervisor beats for its producers.

It keeps no job from being rescued that nobody runs: what is dead, stopped, frozen or idle uses no CPU, and what uses
it is stood in for during a minute at most, then killed and buried. A beat revives no producer that was declared dead,
and an ack is fenced as ever. While all is well this costs a read of the pipe, and no connection.
"""

import asyncio
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

log = logging.getLogger(__name__)

QUIET_FOR, LOOK_EVERY = 1.5, 0.5
SHARE = 0.1
"""Of one CPU, that a process uses which works, though it may have to share; an idle one uses a twentieth of it."""
LONGEST = 60.0
PATIENCE = 3.0


class StandIn:
    """Watches one process, and beats for it while `draining` says whether it was asked to end.

    After `longest` seconds the process is killed, and `gave_up` is true.
    """

    def __init__(
        self,
        pid: int,
        producers: Sequence[UUID],
        node: str,
        *,
        draining: Callable[[], bool],
        longest: float = LONGEST,
    ) -> None:
        self.gave_up = False
        self._pid = pid
        self._producers = producers
        self._node = node
        self._draining = draining
        self._longest = longest
        self._seen: tuple[float, float] | None = None
        self._since: float | None = None

    def watch(self, turns: int) -> None:
        """Return when the process or its heartbeat has ended; at once where neither can be seen.

        A child of a handler may hold `turns` open, so it is the process that is waited for.
        """
        if sys.platform != "linux":
            return
        try:
            process = os.pidfd_open(self._pid)
        except OSError:
            return
        try:
            events = select.poll()
            events.register(process, select.POLLIN)
            events.register(turns, select.POLLIN)
            while True:
                patience = QUIET_FOR if self._seen is None else LOOK_EVERY
                ready = {descriptor for descriptor, _ in events.poll(patience * 1000)}
                if process in ready or (turns in ready and not os.read(turns, 1024)):
                    return
                if turns in ready:
                    self._turned()
                elif self._works():
                    self._stand_in(process)
        finally:
            os.close(process)

    def _turned(self) -> None:
        if self._since is not None:
            seconds = time.monotonic() - self._since
            log.warning("the worker process of %s goes on after %.1f s more", self._node, seconds)
        self._seen = self._since = None

    def _works(self) -> bool:
        """Say whether it has used the CPU since the last look, if that found no turn either."""
        before, self._seen = self._seen, _look(self._pid)
        if before is None or self._seen is None:
            return False
        passed, used = (new - old for new, old in zip(self._seen, before, strict=True))
        return used >= SHARE * passed

    def _stand_in(self, process: int) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            log.warning(
                "a job holds the interpreter of the worker process of %s, whose heartbeat has had no turn for %.0f s: "
                "beating for it, for at most %g s; give such a job process=True, or release the GIL in it",
                self._node,
                QUIET_FOR + LOOK_EVERY,
                self._longest,
            )
        if now - self._since >= self._longest:
            self.gave_up = True
            signal.pidfd_send_signal(process, signal.SIGKILL)
        else:
            asyncio.run(_beat(self._producers, draining=self._draining()))


async def _beat(uuids: Sequence[UUID], *, draining: bool) -> None:
    from quarterjack.asking import answered
    from quarterjack.database import LOST, connect, from_environment
    from quarterjack.errors import SettingInvalid
    from quarterjack.queries import producers

    name = "quarterjack-worker supervisor"
    try:
        async with asyncio.timeout(PATIENCE):
            connection = await connect(from_environment(), name=name)
            try:
                beat = producers.stay(connection, uuids=uuids, draining=draining)
                await answered(connection, beat, PATIENCE)
            finally:
                connection.terminate()
    except (*LOST, SettingInvalid) as error:
        log.warning("could not beat for the worker process: %s; trying again", error)


def _look(pid: int) -> tuple[float, float] | None:
    """Give the time and the seconds of CPU used until now; None if the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return time.monotonic(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
