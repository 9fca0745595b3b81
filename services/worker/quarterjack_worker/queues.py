"""The queues of this process: how much each may run, and Oban's signals that steer them."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from quarterjack.oban_web import NAME
from quarterjack.queries.claims import Want
from quarterjack.queries.limited_claims import Look
from quarterjack.queries.producers import Asked, Producing
from quarterjack.queries.queues import ALL, LARGEST_LIMIT, Change
from quarterjack_worker.handlers.context import Context

log = logging.getLogger(__name__)

FEW_AT_ONCE, MOST_AT_ONCE = 100, 500
SHORTEST, MEMORY = 1e-5, 8
POLL, POLL_HELD_BACK, LONGEST_HELD_BACK, QUICK = 1.0, 0.05, 0.25, 0.02
AHEAD, MOST_AHEAD = 0.005, 100
"""Claimed beyond the limit is what begins within so many seconds, if jobs go on to take what they took."""
MOST_KEPT = 100
BUSY = 10
"""While a limit leaves jobs waiting, a worker waits this many times as long as its last look took, unless it knows when
there will be room; and after a look that was not `QUICK`, at least as long as that took."""


@dataclass(slots=True, kw_only=True)
class Queue:
    """One queue of this process. `running` jobs have begun, `waiting` ones are claimed and begin when those end.

    `hungry`: the database may hold more for it than was claimed. `took`: what jobs take, in seconds, of late; so many
    are claimed `ahead` of the limit.
    `full`: its limit over all nodes leaves jobs waiting, until some end; so many looks were `in_vain`. `look_at`: when
    to look though nobody rang, for limits leave jobs waiting, and room may be made elsewhere; `rested_at`: no look is
    taken sooner.
    `crowded`: its first jobs are of a few values of a key, and others wait behind them, such as `far`.
    """

    name: str
    producer: UUID
    limit: int
    own_limit: int
    running: int = 0
    waiting: deque[Context] = field(default_factory=deque)
    took: float = 60.0
    ahead: int = 0
    paused: bool = False
    stopped: bool = False
    hungry: bool = True
    limited: bool = False
    full: bool = False
    in_vain: int = 0
    look_at: float = math.inf
    rested_at: float = -math.inf
    crowded: bool = False
    far: Sequence[int] = ()

    @property
    def resting(self) -> bool:
        """True while no job of it is claimed."""
        return self.paused or self.stopped

    @property
    def held_back(self) -> bool:
        """True while limits over all nodes leave jobs waiting, as far as a claim saw."""
        return self.limited and self.look_at < math.inf

    @property
    def free(self) -> int:
        """How many more jobs may be claimed."""
        if self.resting:
            return 0
        return max(0, self.limit + self.ahead - self.running - len(self.waiting))

    @property
    def roomy(self) -> bool:
        """True if a claim is worth its cost: it may hold more, and half of its room is free."""
        return self.hungry and 2 * self.free >= self.limit + self.ahead

    @property
    def ready(self) -> bool:
        """True while a waiting job may begin."""
        return bool(self.waiting) and self.running < self.limit and not self.resting

    @property
    def demand(self) -> int:
        """How many to claim at once: half of a large limit, so that the next claim is on its way while these run."""
        return min(self.free, max(FEW_AT_ONCE, min(self.limit // 2, MOST_AT_ONCE)))

    def looked(self, look: Look, *, found: int) -> None:
        """Take what a claim within limits saw, and how many it took.

        While jobs at once are all that is limited, looks that find nothing become rarer: who makes room looks at once.
        """
        now = time.monotonic()
        self.crowded, self.full = look.crowded, look.held_back and look.full
        self.rested_at = now + (look.took if look.took > QUICK else 0)
        self.in_vain = 0 if found else self.in_vain + 1
        if not look.held_back:
            self.look_at = math.inf
            return
        poll = max(POLL_HELD_BACK, BUSY * look.took)
        if look.room_in is None:
            poll = max(poll, min(LONGEST_HELD_BACK, POLL_HELD_BACK * 2.0 ** min(self.in_vain, 9)))
        elif look.room_in > 0:
            room_in = max(look.room_in, look.took)
            poll = min(poll, room_in) if look.full else room_in
        self.look_at = now + min(poll, POLL)

    def due(self, now: float) -> float:
        """Give when to look though nobody wakes; one that is hungry could not be looked at just now."""
        if not self.hungry:
            return self.look_at if self.held_back else math.inf
        return self.rested_at if self.rested_at > now else now + POLL

    def ended(self, seconds: float) -> None:
        """Count one that ran for so long."""
        self.running -= 1
        self.took += (seconds - self.took) / MEMORY

    def look_ahead(self) -> None:
        """Find how many more may be claimed than may run: many, where jobs end sooner than a claim is answered."""
        able = self.limit * AHEAD / max(self.took, SHORTEST)
        self.ahead = 0 if self.limited else min(MOST_AHEAD, int(able))

    def slow_down(self) -> None:
        """Claim nothing ahead until jobs have shown again that they are short."""
        self.took = max(self.took, 2 * self.limit * AHEAD)

    def take(self, change: Change) -> None:
        """Do what is asked; the rest stays."""
        self.paused = self.paused if change.paused is None else change.paused
        self.stopped = self.stopped if change.stopped is None else change.stopped
        self.limit = self.limit if change.limit is None else change.limit
        self.hungry = True

    def follow(self, asked: Asked) -> bool:
        """Stand as is asked, in every respect; True if that changes anything."""
        before = self.paused, self.stopped, self.limit, self.limited
        wanted = asked.paused, asked.stopped, asked.limit or self.own_limit, asked.limited
        if before == wanted:
            return False
        self.paused, self.stopped, self.limit, self.limited = wanted
        self.hungry = True
        return True

    def words(self) -> str:
        state = "stopped" if self.stopped else "paused" if self.paused else "running"
        return f"{state}, up to {self.limit}"


class Queues:
    """All queues, by name."""

    def __init__(self, limits: dict[str, int], uuids: dict[str, UUID], node: str) -> None:
        self._queues = {
            name: Queue(name=name, producer=uuids[name], limit=limit, own_limit=limit)
            for name, limit in limits.items()
        }
        self._node = node
        self.unwritten: dict[tuple[str, str], Change] = {}
        self.kept: deque[Mapping[str, Any]] = deque(maxlen=MOST_KEPT)
        self.obeyed, self.crowding = asyncio.Event(), asyncio.Event()
        self.written_at = -math.inf

    def __getitem__(self, name: str) -> Queue:
        return self._queues[name]

    def __iter__(self) -> Iterator[Queue]:
        return iter(self._queues.values())

    def wants(self, *, limited: bool) -> list[Want]:
        """Give the demand of every queue that has room; of limited ones, of those that are worth a look.

        Others cost nothing in the same statement, limited ones have one each.
        """
        now = time.monotonic()
        mine = [queue for queue in self if queue.limited == limited]
        for queue in mine:
            queue.look_ahead()
        return [
            Want(
                queue=queue.name,
                producer=queue.producer,
                demand=queue.demand,
                limited=limited,
                far=queue.far if queue.crowded else (),
            )
            for queue in mine
            if queue.free and (not limited or (queue.hungry and queue.rested_at <= now))
        ]

    def patience(self, *, limited: bool) -> float | None:
        """Give for how many seconds to wait for a sign before the next look; None if that may take for ever."""
        now = time.monotonic()
        due = [queue.due(now) for queue in self if queue.limited == limited and queue.free]
        first = min(due, default=math.inf)
        return max(0.0, first - now) if first < math.inf else None

    def producing(self) -> list[Producing]:
        """Give what the heartbeat shows."""
        return [
            Producing(
                uuid=queue.producer,
                queue=queue.name,
                limit=queue.limit,
                running=queue.running,
                paused=queue.resting,
            )
            for queue in self
        ]

    def look_again(self, *, limited: bool) -> None:
        """Have queues of a kind looked at again whose limits left jobs waiting for long enough."""
        now = time.monotonic()
        for queue in self:
            if queue.limited == limited and queue.held_back and queue.look_at <= now:
                queue.hungry = True

    def rung(self, name: object) -> list[Queue]:
        """Take note of an insert into one queue, or, unnamed, into any; give those of ours."""
        rung = [queue for queue in self if name in (None, queue.name)]
        for queue in rung:
            queue.hungry = True
        return rung

    def obey(self, signal: dict[str, Any]) -> None:
        """Do as Oban's signals say, and keep it in `unwritten`; others, and those for others, are passed over.

        A signal may be meant for nodes in another language: it starts only queues that this worker was given. One that
        is `kept`, as was said just before it, stands in qj_queues by now, as may what was asked after it: it is written
        only over what was asked before it and is not written yet.
        """
        if is_kept := signal in self.kept:
            self.kept.remove(signal)
        ident, name = signal.get("ident", "any"), signal.get("queue")
        if ident not in ("any", f"{NAME}.{self._node}"):
            return
        for queue in self:
            if name not in ("*", queue.name):
                continue
            change = _read(signal, queue)
            if change is not None:
                log.info("queue %s: %s by a signal", queue.name, signal["action"])
                queue.take(change)
                if is_kept and queue.name not in {unwritten for unwritten, _ in self.unwritten}:
                    self.written_at = time.monotonic()
                    continue
                key = queue.name, ALL if ident == "any" else self._node
                self.unwritten[key] = self.unwritten.pop(key, Change()).then(change)
                self.obeyed.set()

    def waiting(self, asked: Mapping[UUID, Asked]) -> list[str]:
        """Give the queues that have jobs waiting, by what a heartbeat saw."""
        return [
            queue.name for queue in self if (wish := asked.get(queue.producer)) and wish.waiting
        ]

    def follow(self, asked: Mapping[UUID, Asked], read_at: float) -> bool:
        """Do as qj_queues asks, which was read from `read_at` on; True if that changes anything.

        What was read before a signal was written there is older than the signal: the next heartbeat tells.
        """
        if self.unwritten or read_at < self.written_at:
            return False
        changed = [
            queue for queue in self if (wish := asked.get(queue.producer)) and queue.follow(wish)
        ]
        for queue in changed:
            log.info("queue %s: %s", queue.name, queue.words())
        return bool(changed)


def _read(signal: Mapping[str, Any], queue: Queue) -> Change | None:
    """Give what a signal asks of a queue, to some of them by its name only; None if nothing that can be done."""
    limit, named = _read_limit(signal.get("limit")), signal.get("queue") == queue.name
    paused = said if isinstance(said := signal.get("paused"), bool) else None
    match signal.get("action"):
        case "pause" | "resume" as action:
            return Change(paused=action == "pause")
        case "scale" if limit and named:
            return Change(limit=limit, paused=paused)
        case "stop" if named:
            return Change(stopped=True)
        case "start" if limit and named and queue.stopped:
            return Change(stopped=False, limit=limit, paused=paused is True)
        case _:
            return None


def _read_limit(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= LARGEST_LIMIT else None
