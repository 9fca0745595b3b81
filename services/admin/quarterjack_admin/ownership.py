"""Who manages a schedule but the page, and where it differs from what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quarterjack import drift
from quarterjack.drift import Drift
from quarterjack.model import JobType, Schedule
from quarterjack.queries.managed import Managed
from quarterjack.queries.schedules import Version
from quarterjack.redaction import redact
from quarterjack_admin.forms import LABELS
from quarterjack_admin.words import in_line, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field that is not as its manager says, in words and without secrets."""

    label: str
    declared: str
    present: str
    since: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """`kind` is file or code, `said` names it in a sentence."""

    kind: str
    said: str
    version: int | None
    differences: Sequence[Difference]

    @property
    def fields(self) -> str:
        return ", ".join(each.label for each in self.differences)


def owner(
    schedule: Schedule,
    managed: Mapping[int, Managed],
    versions: Sequence[Version] = (),
    job_type: JobType | None = None,
) -> Owner | None:
    """Say who manages it; None for the page. Without versions it is not said since when it differs."""
    if schedule.managed_by not in ("file", "code"):
        return None
    declared = managed.get(schedule.id)
    drifts = drift.find(schedule, declared, versions) if declared else []
    hidden = job_type.redacted if job_type else ()
    return Owner(
        kind=schedule.managed_by,
        said=_said(schedule, declared),
        version=declared.version if declared else None,
        differences=[_difference(each, hidden) for each in drifts],
    )


def _said(schedule: Schedule, managed: Managed | None) -> str:
    if schedule.managed_by == "code":
        return f"the code of {short(schedule.worker)}"
    return f"a file ({managed.source})" if managed else "a file"


def _difference(found: Drift, hidden: Sequence[str]) -> Difference:
    return Difference(
        label=LABELS.get(found.field, found.field.capitalize()),
        declared=_shown(found.field, found.declared, hidden),
        present=_shown(found.field, found.present, hidden),
        since=found.since,
    )


def _shown(field: str, value: Any, hidden: Sequence[str]) -> str:
    return in_line(redact(value, hidden if field == "args" else ()))
