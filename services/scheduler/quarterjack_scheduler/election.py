"""Who leads: a beat every 0.4 s in a thread of its own, so that a busy tick loop costs no lease.

Safety does not rest on this; the fence and the compare-and-set of the enqueue keep it. The election only
makes sure that one replica works and that another follows soon. Two rules keep a sick leader from leading:
  trust     past (send of the last answered beat + TTL - margin) this replica does not even try
  progress  the lease is renewed, or sought, only while the tick loop finishes its passes
"""

import asyncio
import logging
import math
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from asyncpg import Connection, Record

import quarterjack
from quarterjack import channels
from quarterjack.asking import answered
from quarterjack.clock import boot, within
from quarterjack.database import LOST, Address, connect
from quarterjack.errors import QuarterjackError
from quarterjack.health import stalled
from quarterjack.queries import lease, notifications

log = logging.getLogger(__name__)

BEAT = 0.4
TTL = timedelta(seconds=1.5)
TRUST_MARGIN = 0.2
PROGRESS = 2.0
SHY_FOR = 5.0
PATIENCE = TTL.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """This process; the uuid is drawn at start, for names and pids repeat."""

    node: str
    uuid: UUID
    pid: int
    started_at: datetime

    @classmethod
    def named(cls, node: str) -> "Peer":
        return cls(node=node, uuid=uuid4(), pid=os.getpid(), started_at=datetime.now(UTC))


class ElectionEnded(QuarterjackError):
    """The thread of the election is gone; the process must end, to be started again."""


class Election:
    """Keeps this replica's heartbeat and, when it can, the lease. `changed` is called in the thread."""

    def __init__(self, address: Address, peer: Peer, *, changed: Callable[[], object]) -> None:
        self.peer = peer
        self._address = address
        self._changed = changed
        self._term = 0
        self._trusted_until = 0.0
        self._progress = -PROGRESS
        self._shy_until = 0.0
        self._stuck = 0
        self._answered_at = -math.inf
        self._offset = 0.0
        self._lag = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._ended = False
        self._woken = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="election", daemon=True)

    @property
    def term(self) -> int | None:
        """Give the term under which this replica may act now, or None."""
        return self._term if self._term and boot() < self._trusted_until else None

    @property
    def offset(self) -> float:
        """Give what the database's clock was ahead of `boot` at the last beat, in seconds."""
        return self._offset

    def database_now(self) -> datetime:
        """Give the database's clock, from the last beat's offset."""
        return datetime.fromtimestamp(boot() + self._offset, UTC)

    def check(self) -> None:
        """Raise if the beats have ended by themselves: without them this replica is of no use."""
        if self._ended and not self._stopping:
            raise ElectionEnded("the election has ended by an error: see the log before this")

    def unready(self) -> str | None:
        """Say for how long no heartbeat was answered, if for too long."""
        if self._ended:
            return "the election has ended"
        return stalled("the database has answered no heartbeat", boot() - self._answered_at)

    def progressed(self) -> None:
        """Say that the tick loop has finished a pass."""
        self._progress = boot()

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread.start()

    def wake(self) -> None:
        """Beat at once, because something was heard about the lease."""
        if self._loop is None:
            self._woken.set()
        elif self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._woken.set)

    def leave(self) -> None:
        """Begin to give the lease back, tell the others, and end."""
        self._stopping = True
        self.wake()

    async def stop(self) -> None:
        """Leave, and wait for the end of the thread."""
        self.leave()
        await asyncio.to_thread(self._thread.join, 5.0)

    def _live(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self.run())
        except Exception:
            log.exception("the election failed")
        finally:
            self._ended = True

    async def run(self) -> None:
        """Beat until told to leave."""
        connection: Connection[Record] | None = None
        reachable = True
        try:
            while not self._stopping:
                pause = BEAT
                try:
                    if connection is None or connection.is_closed():
                        name = f"quarterjack-scheduler beat {self.peer.node}"
                        connection = await connect(self._address, name=name, timeout=2.0)
                    pause = await self._beat(connection)
                    reachable = True
                except LOST as error:
                    if reachable:
                        log.warning("no heartbeat: %s; trying again", error)
                    reachable = False
                    if connection is not None:
                        connection.terminate()
                        connection = None
                await self._rest(pause)
            if connection is not None:
                await self._give_back(connection)
        finally:
            if connection is not None:
                connection.terminate()

    async def _beat(self, connection: "Connection[Record]") -> float:
        sent = boot()
        sound = sent - self._progress < PROGRESS
        standing = await answered(
            connection,
            lease.beat(
                connection,
                uuid=self.peer.uuid,
                node=self.peer.node,
                pid=self.peer.pid,
                version=quarterjack.__version__,
                started_at=self.peer.started_at,
                lag=timedelta(seconds=self._lag),
                clock_offset=datetime.now(UTC) - self.database_now(),
                term=self._term if sound else 0,
                ttl=TTL,
            ),
            PATIENCE,
        )
        received = self._answered_at = boot()
        self._lag = received - sent
        self._offset = standing.now.timestamp() - (sent + received) / 2
        if standing.leading:
            self._stuck = 0
            self._trusted_until = sent + TTL.total_seconds() - TRUST_MARGIN
            return BEAT
        self._stuck = 0 if sound else self._stuck + 1
        if self._term and standing.term == self._term and self._stuck == 1:
            return BEAT
        if self._term:
            await self._step_down(connection, standing)
        sound = sound and sent >= self._shy_until
        if standing.free and sound:
            await self._seek(connection, standing.term)
            return BEAT
        until_expiry = standing.remaining.total_seconds() + 0.005 + random.random() * 0.02  # noqa: S311 - jitter
        return min(BEAT, until_expiry) if sound else BEAT

    async def _step_down(self, connection: "Connection[Record]", standing: lease.Standing) -> None:
        """Lead no more; if it was for want of progress, let another try before seeking the lease again."""
        stuck = self._stuck > 0 and standing.term == self._term
        newer = standing.term > self._term
        why = f"term {standing.term} has begun" if newer else "the database holds it no more"
        log.warning("lost term %d: %s", self._term, "its tick loop is stuck" if stuck else why)
        if stuck:
            self._shy_until = boot() + SHY_FOR
            await self._give_back(connection)
        self._term = 0
        self._changed()

    async def _seek(self, connection: "Connection[Record]", seen_term: int) -> None:
        sent = boot()
        term = await answered(
            connection,
            lease.acquire(
                connection,
                uuid=self.peer.uuid,
                node=self.peer.node,
                seen_term=seen_term,
                ttl=TTL,
            ),
            PATIENCE,
        )
        if term is None:
            return
        self._term, self._trusted_until = term, sent + TTL.total_seconds() - TRUST_MARGIN
        log.info("leads with term %d", term)
        self._changed()
        await self._tell(connection, '{"action": "elected"}')

    async def _give_back(self, connection: "Connection[Record]") -> None:
        term, self._term = self._term, 0
        try:
            await answered(
                connection, lease.resign(connection, uuid=self.peer.uuid, term=term), PATIENCE
            )
            if term:
                log.info("resigned term %d", term)
                await self._tell(connection, '{"action": "resigned"}')
        except LOST as error:
            log.warning("could not resign: %s; the lease runs out by itself", error)

    async def _tell(self, connection: "Connection[Record]", message: str) -> None:
        channel = channels.channel(self._address.schema, channels.SCHEDULER)
        try:
            await answered(connection, notifications.send(connection, channel, message), PATIENCE)
        except LOST as error:
            log.warning("could not tell the others: %s; they will see it", error)

    async def _rest(self, seconds: float) -> None:
        if await within(seconds, self._woken.wait()):
            self._woken.clear()
