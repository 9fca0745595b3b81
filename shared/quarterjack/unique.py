"""Which jobs count as the same, for how long.

The promise is kept by one partial unique index on `meta ->> 'qj_unique'`: an insert first releases the
key from jobs that no longer block (another state, or older than the period), then inserts or conflicts.
So it holds against any number of concurrent inserts, who wait for each other until they commit.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from quarterjack.errors import JobInvalid
from quarterjack.model import STATE_GROUPS

FIELDS = ("worker", "queue", "args")
REPLACEABLE = ("args", "scheduled_at", "priority", "max_attempts", "tags")
LONGEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """At most one job with equal `fields` in one of `states` within `period` of its insert.

    `period=None` means for as long as the job is in one of the states; `keys` restricts args to some
    top-level keys; `states` names a group: incomplete, successful, scheduled or all. A conflicting insert
    replaces these fields of a job that still waits: `replace`, which is for inserts, not for schedules.
    """

    period: timedelta | None = timedelta(seconds=60)
    fields: tuple[str, ...] = FIELDS
    keys: tuple[str, ...] = ()
    states: str = "successful"
    replace: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.period is not None and not (
            isinstance(self.period, timedelta) and timedelta(0) < self.period <= LONGEST
        ):
            raise JobInvalid(
                f"unique period is {self.period!s:.60}: give a timedelta above 0 of at most "
                f"{LONGEST.days} days, or None for ever"
            )
        if not are_texts(self.keys):
            raise JobInvalid(f"unique keys are {self.keys!r:.60}: give the names of some args")
        if not are_texts(self.fields) or not self.fields or set(self.fields) - set(FIELDS):
            raise JobInvalid(
                f"unique fields are {self.fields!r:.60}: choose from {', '.join(FIELDS)}"
            )
        if not are_texts(self.replace) or set(self.replace) - set(REPLACEABLE):
            raise JobInvalid(
                f"unique replace is {self.replace!r:.60}: choose from {', '.join(REPLACEABLE)}"
            )
        if not isinstance(self.states, str) or self.states not in STATE_GROUPS:
            raise JobInvalid(
                f"unique states {self.states!r:.60} are unknown: choose from {', '.join(STATE_GROUPS)}"
            )

    def key(self, *, worker: str, queue: str, args: Mapping[str, Any]) -> str:
        """Digest what makes two jobs the same."""
        picked = {key: args[key] for key in self.keys if key in args} if self.keys else dict(args)
        whole = {"worker": worker, "queue": queue, "args": picked}
        chosen = {field: whole[field] for field in self.fields}
        text = json.dumps([chosen, self.states], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def blocking_states(self) -> list[str]:
        return [state.value for state in STATE_GROUPS[self.states]]

    def to_json(self) -> dict[str, Any]:
        """Give the form stored in qj_job_types and qj_schedules; period in seconds."""
        return {
            "period": None if self.period is None else self.period.total_seconds(),
            "fields": list(self.fields),
            "keys": list(self.keys),
            "states": self.states,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Unique":
        """Read the stored form; JobInvalid says what is wrong with it."""
        try:
            period = value.get("period", 60)
            return cls(
                period=None if period is None else timedelta(seconds=float(period)),
                fields=_texts(value.get("fields", FIELDS)),
                keys=_texts(value.get("keys", ())),
                states=value.get("states", "successful"),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise JobInvalid(f"uniqueness {str(value)[:200]} cannot be read: {error}") from error


def _texts(value: Any) -> tuple[str, ...]:
    """A text by itself would be taken for its letters."""
    if isinstance(value, str):
        raise TypeError(f"{value[:60]!r} is not a list")
    return tuple(value)


def are_texts(value: object) -> bool:
    """Say whether these are texts, and not one, which would be taken for its letters."""
    return (
        isinstance(value, Collection)
        and not isinstance(value, str)
        and all(isinstance(each, str) for each in value)
    )
