"""The queues of this process: how much each may run, and Oban's signals that steer them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from quarterjack.queries.claims import Want
from quarterjack.queries.producers import Producing

log = logging.getLogger(__name__)

LARGEST = 10_000
AT_ONCE = 100


@dataclass(slots=True, kw_only=True)
class Queue:
    """One queue of this process. `hungry`: the database may hold more for it than was claimed."""

    name: str
    producer: UUID
    limit: int
    running: int = 0
    paused: bool = False
    stopped: bool = False
    hungry: bool = True

    @property
    def resting(self) -> bool:
        """True while no job of it is claimed."""
        return self.paused or self.stopped

    @property
    def free(self) -> int:
        return 0 if self.resting else max(0, self.limit - self.running)

    @property
    def demand(self) -> int:
        """How many to claim at once: half of a large limit, so that the next claim is on its way while these run."""
        return min(self.free, max(AT_ONCE, self.limit // 2))


class Queues:
    """All queues, by name."""

    def __init__(self, limits: dict[str, int], uuids: dict[str, UUID], identity: str) -> None:
        self._queues = {
            name: Queue(name=name, producer=uuids[name], limit=limit)
            for name, limit in limits.items()
        }
        self._identity = identity

    def __getitem__(self, name: str) -> Queue:
        return self._queues[name]

    def __iter__(self) -> Iterator[Queue]:
        return iter(self._queues.values())

    def wants(self) -> list[Want]:
        """Give the demand of every queue that has room."""
        return [
            Want(queue=queue.name, producer=queue.producer, demand=queue.demand)
            for queue in self._queues.values()
            if queue.free
        ]

    def roomy(self) -> bool:
        """Say whether a claim is worth its cost: a queue that may hold more has half of its room free."""
        return any(queue.hungry and 2 * queue.free >= queue.limit for queue in self)

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
            for queue in self._queues.values()
        ]

    def rung(self, name: object) -> bool:
        """Take note of an insert into one queue, or, unnamed, into any; False if it is none of ours."""
        rung = [queue for queue in self._queues.values() if name in (None, queue.name)]
        for queue in rung:
            queue.hungry = True
        return bool(rung)

    def obey(self, signal: dict[str, Any]) -> None:
        """Do as Oban's signals say; others, and those for others, are passed over.

        A signal may be meant for nodes in another language: it starts only queues that this worker was given.
        """
        if signal.get("ident", "any") not in ("any", self._identity):
            return
        name = signal.get("queue")
        for queue in self._queues.values():
            if name in ("*", queue.name) and _steer(queue, signal):
                queue.hungry = True
                log.info("queue %s: %s by a signal", queue.name, signal["action"])


def _steer(queue: Queue, signal: dict[str, Any]) -> bool:
    """Change what a signal asks for; False if it asks for nothing that can be done."""
    limit = _read_limit(signal.get("limit"))
    match signal.get("action"):
        case "pause" | "resume" as action:
            queue.paused = action == "pause"
        case "scale" if limit:
            queue.limit = limit
        case "stop":
            queue.stopped = True
        case "start" if limit and queue.stopped:
            queue.stopped, queue.limit = False, limit
            queue.paused = signal.get("paused") is True
        case _:
            return False
    return True


def _read_limit(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= LARGEST else None
