"""Where a schedule differs from the file or code that manages it, and since when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quarterjack import durations
from quarterjack.definition import Definition
from quarterjack.errors import JobInvalid
from quarterjack.model import Schedule
from quarterjack.queries.managed import Managed
from quarterjack.queries.schedules import Version
from quarterjack.unique import Unique


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A field that is not as its manager says; `since` is the version that changed it, if it is remembered."""

    field: str
    declared: Any
    present: Any
    since: Version | None


def find(schedule: Schedule, managed: Managed, versions: Sequence[Version]) -> list[Drift]:
    """List the fields that differ; `versions` come newest first."""
    present = written(schedule)
    return [
        Drift(
            field=field,
            declared=managed.definition[field],
            present=value,
            since=_since(field, managed, versions),
        )
        for field, value in present.items()
        if field in managed.definition and not same(value, managed.definition[field])
    ]


def written(schedule: Schedule) -> dict[str, Any]:
    """Give all that defines a schedule as a person would write it, but its name and whether it is paused."""
    return {
        "worker": schedule.worker,
        **Definition.of(schedule).written(),
        "uniqueness": written_uniqueness(schedule.uniqueness),
    }


def written_uniqueness(stored: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give uniqueness with its period as a text; what another program wrote otherwise stays as it is."""
    if stored is None:
        return None
    try:
        unique = Unique.from_json(stored)
    except JobInvalid:
        return dict(stored)
    period = None if unique.period is None else durations.write(unique.period)
    return {**unique.to_json(), "period": period}


def same(one: object, other: object) -> bool:
    """Compare as JSON does, where true is not 1 but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def _since(field: str, managed: Managed, versions: Sequence[Version]) -> Version | None:
    """Give the oldest of the newest versions that agree on the field; None if none is younger than the file's."""
    found = None
    for version in versions:
        if managed.version is not None and version.version <= managed.version:
            return found
        if not same(version.definition.get(field), versions[0].definition.get(field)):
            return found
        found = version
    return None
