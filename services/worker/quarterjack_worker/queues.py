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


@dataclass(slots=True, kw_only=True)
class Queue:
    """One queue of this process. `hungry`: the database may hold more for it than was claimed."""

    name: str
    producer: UUID
    limit: int
    running: int = 0
    paused: bool = False
    hungry: bool = True

    @property
    def free(self) -> int:
        return 0 if self.paused else max(0, self.limit - self.running)


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
            Want(queue=queue.name, producer=queue.producer, demand=queue.free)
            for queue in self._queues.values()
            if queue.free
        ]

    def producing(self) -> list[Producing]:
        """Give what the heartbeat shows."""
        return [
            Producing(
                uuid=queue.producer,
                queue=queue.name,
                limit=queue.limit,
                running=queue.running,
                paused=queue.paused,
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
        """Pause, resume or scale as Oban's signals say; others and those for others are passed over."""
        if signal.get("ident", "any") not in ("any", self._identity):
            return
        action, name = signal.get("action"), signal.get("queue")
        chosen = [queue for queue in self._queues.values() if name in ("*", queue.name)]
        for queue in chosen:
            if action in ("pause", "resume"):
                queue.paused = action == "pause"
                queue.hungry = True
                log.info("queue %s %sd by a signal", queue.name, action)
            elif action == "scale" and (limit := _read_limit(signal.get("limit"))):
                queue.limit = limit
                queue.hungry = True
                log.info("queue %s scaled to %d by a signal", queue.name, limit)


def _read_limit(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= LARGEST else None
