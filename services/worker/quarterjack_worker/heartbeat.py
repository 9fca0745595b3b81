"""The sign of life of this process, from a thread and a connection of its own: a handler that blocks the
event loop costs no job its worker."""

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from asyncpg import Connection, Record

from quarterjack.asking import answered
from quarterjack.database import LOST, Address, connect
from quarterjack.errors import QuarterjackError
from quarterjack.health import stalled
from quarterjack.oban_web import NAME
from quarterjack.queries import producers
from quarterjack.queries.producers import Asked, Producing

log = logging.getLogger(__name__)

BEAT = 1.0
PATIENCE = 2.0
LOOK_AGAIN = 30.0


class HeartbeatEnded(QuarterjackError):
    """The thread of the heartbeat is gone; the process must end, to be started again."""


class Heartbeat:
    """Beats for all producers of the process.

    A beat looks for jobs and shows itself to Oban's tools as well, but not for half a minute after one that failed: a
    lock on Oban's tables, or a right to them that is missing, makes no worker look dead, and of the beats that wait for
    a lock, which go on in the server, there are few.

    Called in the thread: `asked` with what is asked of each and when that was read, `condemned` if one was declared
    dead. It shows its turns to the supervisor on the descriptor `turns`, whether or not beats are answered, and closes
    that when it ends.
    """

    def __init__(
        self,
        address: Address,
        node: str,
        producing: Callable[[], Sequence[Producing]],
        *,
        asked: Callable[[Mapping[UUID, Asked], float], object],
        condemned: Callable[[], object],
        turns: int,
    ) -> None:
        self.draining = False
        self._address = address
        self._node = node
        self._producing = producing
        self._asked = asked
        self._condemned = condemned
        self._turns = turns
        self._parent = os.getppid()
        self._answered_at = -math.inf
        self._stopping = threading.Event()
        self._woken, self._ended = asyncio.Event(), asyncio.Event()
        self._main = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._live, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; from now on the supervisor counts a life that may hold jobs."""
        self._show_turn()
        self._thread.start()

    def unready(self) -> str | None:
        """Say for how long no heartbeat was answered, if for too long."""
        return stalled(
            "the database has answered no heartbeat", time.monotonic() - self._answered_at
        )

    async def watch(self) -> None:
        """End the process, by an error, when the thread has ended; until cancelled."""
        await self._ended.wait()
        if not self._stopping.is_set():
            raise HeartbeatEnded("the heartbeat has ended by an error: see the log before this")

    async def stop(self) -> None:
        """End the thread; waits for it for as long as a beat may take."""
        self._stopping.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # the thread has ended, and closed it
                self._loop.call_soon_threadsafe(self._woken.set)
        await asyncio.to_thread(self._thread.join, PATIENCE)

    def _live(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._run())
        except Exception:
            log.exception("the heartbeat failed")
        finally:
            os.close(self._turns)
            with suppress(RuntimeError):  # the process ends, and has closed it
                self._main.call_soon_threadsafe(self._ended.set)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(self._show_turns())
            await self._beat_on()
            showing.cancel()

    async def _show_turns(self) -> None:
        """Have each followed by a beat, until cancelled; it never waits for a supervisor that does not read."""
        while True:
            self._show_turn()
            self._woken.set()
            await asyncio.sleep(BEAT)

    def _show_turn(self) -> None:
        with suppress(OSError):
            os.write(self._turns, b".")

    async def _beat_on(self) -> None:
        connection: Connection[Record] | None = None
        reachable, look_from = True, -math.inf
        while not self._stopping.is_set():
            began = time.monotonic()
            _end_with_parent(self._parent)
            try:
                if connection is None or connection.is_closed():
                    name = f"quarterjack-worker beat {self._node}"
                    connection = await connect(self._address, name=name, timeout=PATIENCE)
                beat = self._beat(connection, looks=began >= look_from)
                await answered(connection, beat, PATIENCE)
                reachable = True
            except LOST as error:
                if reachable:
                    log.warning("could not beat: %s; trying again", error)
                reachable, look_from = False, began + LOOK_AGAIN
                if connection is not None:
                    connection.terminate()
                    connection = None
            await self._woken.wait()
            self._woken.clear()
        if connection is not None:
            connection.terminate()

    async def _beat(self, connection: "Connection[Record]", *, looks: bool) -> None:
        producing, began = self._producing(), time.monotonic()
        if looks:
            alive = await producers.beat(
                connection, node=self._node, name=NAME, draining=self.draining, producers=producing
            )
        else:
            uuids = [each.uuid for each in producing]
            alive = await producers.stay(connection, uuids=uuids, draining=self.draining)
        self._answered_at = time.monotonic()
        self._asked(alive, began)
        if any(each.uuid not in alive for each in producing) and not self._stopping.is_set():
            self._condemned()


def _end_with_parent(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)
