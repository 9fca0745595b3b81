"""What applying a file would do, worked out before anything is written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quarterjack import drift
from quarterjack.args_schema import misfit
from quarterjack.cli.problems import Problem
from quarterjack.cli.wanted import File, Wanted
from quarterjack.definition import Definition
from quarterjack.drift import Drift
from quarterjack.model import JobType, Schedule
from quarterjack.queries.managed import Managed

MANAGERS = {"ui": "the page", "code": "its worker's code"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A field that gets another value; `drift` if somebody changed it after the file was applied."""

    field: str
    old: Any
    new: Any
    drift: Drift | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What becomes of one schedule: make, change, adopt, keep, remove or forgotten (no longer in the file)."""

    kind: str
    name: str
    present: Schedule | None
    wanted: Wanted | None = None
    job_type: JobType | None = None
    changes: Sequence[Change] = ()
    row: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)
    pause: str | None = None

    @property
    def writes(self) -> bool:
        return self.kind in ("make", "change", "adopt", "remove")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the database says of the schedules of a file."""

    present: Mapping[str, Schedule]
    managed: Mapping[int, Managed]
    drifts: Mapping[int, Sequence[Drift]]
    job_types: Mapping[str, JobType]
    calendars: frozenset[str]


def problems(file: File, found: Found, *, adopt: bool) -> list[Problem]:
    """List what only the database can tell: args, calendars, and schedules that others manage."""
    return [
        Problem(line=wanted.line_of(key), text=f"{wanted.name}: {said}")
        for wanted in file.wanted
        for key, said in _problems(wanted, file, found, adopt=adopt)
    ]


def _problems(
    wanted: Wanted, file: File, found: Found, *, adopt: bool
) -> Iterator[tuple[str, str]]:
    job_type = found.job_types.get(wanted.worker)
    if job_type is not None and (odd := misfit(wanted.given.args, job_type.args_schema)):
        yield "args", f"args: {wanted.worker} takes no such args: {odd}"
    gone = [name for name in wanted.given.calendars if name not in found.calendars]
    if gone:
        there = ", ".join(sorted(found.calendars)) or "none yet"
        yield "calendars", f"calendars: there is no calendar {gone[0]!r}; there are: {there}"
    present = found.present.get(wanted.name)
    if present is not None and not adopt and (other := _other_manager(present, file, found)):
        yield (
            "",
            f"is managed by {other}: give --adopt to let this file manage it, or take it out",
        )


def _other_manager(present: Schedule, file: File, found: Found) -> str | None:
    if present.managed_by != "file":
        return MANAGERS.get(present.managed_by, present.managed_by)
    managed = found.managed.get(present.id)
    return managed.source if managed is not None and managed.source != file.source else None


def make_plan(file: File, found: Found, *, prune: bool) -> list[Step]:
    """Give a step for each schedule of the file and each that the file has managed, by name."""
    steps = [_step(wanted, file, found) for wanted in file.wanted]
    named = {wanted.name for wanted in file.wanted}
    kind = "remove" if prune else "forgotten"
    steps += [
        Step(kind=kind, name=name, present=present)
        for name, present in found.present.items()
        if name not in named
    ]
    return sorted(steps, key=lambda step: step.name)


def _step(wanted: Wanted, file: File, found: Found) -> Step:
    job_type = found.job_types.get(wanted.worker)
    present = found.present.get(wanted.name)
    written = wanted.written(job_type)
    pause = _pause(wanted, present)
    changes = () if present is None else _changes(written, pause, present, found.drifts)
    if present is None:
        kind = "make"
    elif changes:
        kind = "change"
    else:
        kind = "adopt" if _other_manager(present, file, found) else "keep"
    definition = wanted.definition(job_type)
    return Step(
        kind=kind,
        name=wanted.name,
        present=present,
        wanted=wanted,
        job_type=job_type,
        changes=changes,
        row={**definition.columns(), "uniqueness": wanted.unique(job_type)},
        written=written,
        pause=pause,
    )


def _changes(
    written: Mapping[str, Any],
    pause: str | None,
    present: Schedule,
    drifts: Mapping[int, Sequence[Drift]],
) -> list[Change]:
    drifted = {each.field: each for each in drifts.get(present.id, ())}
    changes = [
        Change(field=name, old=value, new=written[name], drift=drifted.get(name))
        for name, value in drift.written(present).items()
        if not drift.same(value, written[name])
    ]
    was = _present_pause(present)
    if pause != was:
        changes.append(Change(field="paused", old=_said(was), new=_said(pause)))
    return changes


def _pause(wanted: Wanted, present: Schedule | None) -> str | None:
    """Give the reason why it shall be paused, None for not; what the file does not say stays."""
    was = _present_pause(present) if present is not None else None
    if wanted.paused is None:
        return was
    if isinstance(wanted.paused, str):
        return wanted.paused.strip()
    return (was if was is not None else "") if wanted.paused else None


def _present_pause(present: Schedule) -> str | None:
    return None if present.paused_at is None else present.paused_reason or ""


def _said(pause: str | None) -> bool | str:
    return False if pause is None else pause or True


def exported(present: Schedule, job_type: JobType | None) -> dict[str, Any]:
    """Give what a file has to say for this schedule: all that is no default."""
    given: dict[str, Any] = {"cron": present.cron, "timezone": present.timezone}
    defaults = Definition.model_construct(**given)
    if job_type is not None:
        of_type = ("queue", "priority", "max_attempts", "tags")
        defaults = defaults.model_copy(update={name: getattr(job_type, name) for name in of_type})
    plain = {
        **defaults.written(),
        "uniqueness": drift.written_uniqueness(job_type.uniqueness) if job_type else None,
    }
    stored = drift.written(present)
    always = ("worker", "cron", "timezone")
    fields = {
        name: value
        for name, value in stored.items()
        if name in always or not drift.same(value, plain.get(name))
    }
    if present.paused_at is not None:
        fields["paused"] = present.paused_reason or True
    return fields
