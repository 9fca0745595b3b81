"""What Oban Web is told, so that it shows our queues, counts and crons.

Its collector, Met, reads nothing but notifications and jobs. They are only sent while there is one: Met shares its own
crontab, if only an empty one, every 15 s, and keeps what others share for 60 s. A message that it cannot read takes
its pages down for everybody, so nothing but these functions makes one.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from quarterjack import channels
from quarterjack.cron import Cron, Interval

NAME = "Oban"
"""The instance whose nodes ours are: Oban's default name, by which Web's buttons for one node address it."""
OURS = {"software": "quarterjack"}
KEPT = 60.0
INV_LOG_GAMMA = 1 / math.log(1.02 / 0.98)
Told = list[tuple[str, str]]


class Audience:
    """Knows whether an Oban Web listens."""

    def __init__(self) -> None:
        self._until = -math.inf

    def heard(self, message: Mapping[str, Any]) -> None:
        """Take a message on `oban_cronitor`."""
        if not is_ours(message):
            self._until = time.monotonic() + KEPT

    @property
    def present(self) -> bool:
        return time.monotonic() < self._until


def is_ours(message: Mapping[str, Any]) -> bool:
    return message.get("software") == OURS["software"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A queue of a worker process and the ids of the jobs that it runs."""

    uuid: UUID
    queue: str
    limit: int
    paused: bool
    running: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An execution that has ended: the state it gave the job, nanoseconds that it ran and that the job waited."""

    queue: str
    worker: str
    state: str
    ran: int
    waited: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A schedule for the page of crons."""

    name: str
    cron: Cron | Interval
    worker: str
    args: Mapping[str, Any]
    queue: str
    timezone: str
    priority: int
    max_attempts: int
    tags: Sequence[str]


def gossip(node: str, started_at: datetime, checks: Iterable[Check]) -> Told:
    """Say what each queue does. Of more running jobs than a message can name, the others are left out."""
    told: list[Mapping[str, Any]] = []
    for check in checks:
        running = list(check.running)
        shown = {
            "uuid": str(check.uuid),
            "node": node,
            "name": NAME,
            "queue": check.queue,
            "local_limit": check.limit,
            "paused": check.paused,
            "running": running,
            "started_at": started_at.isoformat(),
        }
        while len(channels.encode({"checks": [shown]})) > channels.LONGEST_PAYLOAD:
            running = running[: len(running) // 2]
            shown["running"] = running
        told.append(shown)
    return _told(channels.GOSSIP, {"checks": told}, "checks") if told else []


def executions(node: str, ended: Iterable[Ended]) -> Told:
    """Say how many executions ended how, how long they ran and how long their jobs had waited."""
    grouped: dict[tuple[str, str, str], list[Ended]] = {}
    for each in ended:
        grouped.setdefault((each.state, each.queue, each.worker), []).append(each)
    elements: list[Mapping[str, Any]] = []
    for (state, queue, worker), those in grouped.items():
        labels = {"state": state, "queue": queue, "worker": worker}
        values = {
            "exec_count": {"data": [len(those)]},
            "exec_time": _sketch(each.ran for each in those),
            "wait_time": _sketch(each.waited for each in those),
        }
        elements += [{"series": name, **labels, "value": value} for name, value in values.items()]
    return _metrics(node, elements)


def counts(node: str, found: Iterable[tuple[str, str, int]]) -> Told:
    """Say how many jobs there are by state and queue. Only one node may: Web adds up what it is told."""
    return _metrics(
        node,
        [
            {"series": "full_count", "state": state, "queue": queue, "value": {"data": [count]}}
            for state, queue, count in found
        ],
    )


def counts_of_others(message: Mapping[str, Any]) -> bool:
    """Say whether a message on `oban_metrics` is from another who counts the jobs."""
    elements = message.get("metrics")
    return (
        not is_ours(message)
        and isinstance(elements, list)
        and any(isinstance(each, dict) and each.get("series") == "full_count" for each in elements)
    )


def crontab(node: str, entries: Iterable[Entry]) -> Told:
    """Show the schedules whose expression Oban's grammar can say.

    Web keeps one message of each node, so that what needs several goes out under several names.
    """
    shown = [
        [
            expression,
            entry.worker,
            {
                "name": entry.name,
                "queue": entry.queue,
                "args": dict(entry.args),
                "timezone": entry.timezone,
                "priority": entry.priority,
                "max_attempts": entry.max_attempts,
                "tags": list(entry.tags),
            },
        ]
        for entry in entries
        if (expression := in_obans_words(entry.cron)) is not None
    ]
    whole = {"crontab": shown, "name": NAME, "node": f"{node}#00", **OURS}
    parts = channels.split(whole, "crontab")
    return [
        (channels.CRONITOR, channels.encode({**part, "node": f"{node}#{n:02}" if n else node}))
        for n, part in enumerate(parts)
    ]


def in_obans_words(cron: Cron | Interval) -> str | None:
    """Write an expression in Oban's grammar; None for what that cannot say.

    Oban knows no seconds, no `L` and no `#`, and a day must be right by month and by week where crontab(5) asks
    for either.
    """
    if isinstance(cron, Interval):
        return None
    fields = cron.fields
    either = not (fields.any_day or fields.any_weekday)
    if fields.has_seconds or fields.last_day or fields.nth_weekdays or either:
        return None
    return " ".join(
        (
            _field(fields.minutes, 0, 59),
            _field(fields.hours, 0, 23),
            _field(fields.days, 1, 31),
            _field(fields.months, 1, 12),
            _field(fields.weekdays, 0, 6),
        )
    )


def _field(numbers: Iterable[int], low: int, high: int) -> str:
    chosen = sorted(numbers)
    step = chosen[1] - chosen[0] if len(chosen) > 2 else 0
    if step and chosen == list(range(low, high + 1, step)):
        return "*" if step == 1 else f"*/{step}"
    return ",".join(map(str, chosen))


def _metrics(node: str, elements: Sequence[Mapping[str, Any]]) -> Told:
    if not elements:
        return []
    message = {"metrics": elements, "name": NAME, "node": node, "time": int(time.time()), **OURS}
    return _told(channels.METRICS, message, "metrics")


def _sketch(nanoseconds: Iterable[int]) -> dict[str, Any]:
    """Sort them into bins that are 4 % apart, as Met's quantiles need."""
    bins = Counter(math.ceil(math.log(max(1, each)) * INV_LOG_GAMMA) for each in nanoseconds)
    return {"data": {str(bin): count for bin, count in bins.items()}, "size": bins.total()}


def _told(name: str, message: Mapping[str, Any], key: str) -> Told:
    return [(name, channels.encode(part)) for part in channels.split(message, key)]
