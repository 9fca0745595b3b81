"""How a schedule stands, in words: what the tables say, put together for a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from math import log10

from quarterjack import cron
from quarterjack.model import Job, Schedule
from quarterjack.queries.runs import Run
from quarterjack_admin.preview import in_words
from quarterjack_admin.words import away, took

LATE_AFTER = timedelta(seconds=5)
STUCK_AFTER = timedelta(seconds=10)
BAR_WIDTH, BAR_GAP, CHART_HEIGHT = 5, 2, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`kind` is active, paused, late, saving, ended or broken."""

    kind: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a schedule's cron says; `error` if it cannot be read."""

    words: str
    zone: tzinfo | None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One run in the small chart."""

    x: int
    y: int
    height: int
    state: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The last runs, oldest first, and the same in words."""

    bars: Sequence[Bar]
    width: int
    height: int
    text: str


def meaning(schedule: Schedule, calendars: Mapping[str, cron.Holidays]) -> Meaning:
    """Read when a schedule runs, which another program may have written."""
    try:
        timing = cron.Timing.of(schedule, calendars)
    except cron.CronError as error:
        return Meaning(words="Cannot be read", zone=None, error=str(error))
    return Meaning(words=in_words(timing), zone=timing.tz)


def status(schedule: Schedule, now: datetime, *, led: bool) -> Status:
    """Say how it stands, the worst first."""
    if schedule.end_at is not None and schedule.end_at < now and schedule.next_run_at is None:
        return Status(kind="ended", text="Ended", detail=away(schedule.end_at, now))
    if schedule.broken_reason is not None:
        return Status(kind="broken", text="Invalid", detail=schedule.broken_reason)
    if schedule.paused_at is not None:
        reason = f'"{schedule.paused_reason}", ' if schedule.paused_reason else ""
        who = f"{reason}{schedule.paused_by or 'someone'}, {away(schedule.paused_at, now)}"
        until = f", until {away(schedule.resume_at, now)}" if schedule.resume_at else ""
        return Status(kind="paused", text="Paused", detail=who + until)
    if schedule.applied_version != schedule.version:
        waiting = now - schedule.updated_at
        why = "" if led or waiting < STUCK_AFTER else ": no scheduler leads"
        detail = f"version {schedule.version} saved, not yet applied{why}"
        return Status(kind="saving", text="Saving", detail=detail)
    if schedule.next_run_at is not None and schedule.next_run_at < now - LATE_AFTER:
        why = "the leader is behind" if led else "no scheduler leads"
        return Status(kind="late", text="Late", detail=f"{away(schedule.next_run_at, now)}: {why}")
    return Status(kind="active", text="Active")


def applied(schedule: Schedule) -> str:
    """Say which scheduler applied the present version and how long after the save."""
    if schedule.applied_version != schedule.version or schedule.applied_at is None:
        return f"Saved version {schedule.version}, waiting for the leader"
    after = took(max(schedule.applied_at - schedule.updated_at, timedelta(0)))
    return f"Applied by {schedule.applied_by or 'the leader'} after {after}"


def trigger(job: Job) -> str:
    """Say what made a job."""
    if job.meta.get("trigger") == "manual":
        return f"Run now, {job.meta.get('triggered_by') or 'someone'}"
    if job.meta.get("trigger") == "backfill":
        return f"backfill {job.meta.get('backfill_id')}"
    return "schedule" if job.meta.get("cron") else "application"


def chart(runs: Sequence[Run]) -> Chart:
    """Draw runs that come newest first: the height is the logarithm of the time they took."""
    bars = []
    for place, run in enumerate(reversed(runs)):
        length = run.ended_at - run.attempted_at if run.ended_at and run.attempted_at else None
        height = _height(length)
        title = f"{run.state}, {took(length)}" if length is not None else run.state
        bars.append(
            Bar(
                x=place * (BAR_WIDTH + BAR_GAP),
                y=CHART_HEIGHT - height,
                height=height,
                state=run.state,
                title=title,
            )
        )
    return Chart(
        bars=bars,
        width=max(1, len(bars)) * (BAR_WIDTH + BAR_GAP),
        height=CHART_HEIGHT,
        text=_in_words(runs),
    )


def _height(length: timedelta | None) -> int:
    if length is None:
        return CHART_HEIGHT // 3
    milliseconds = max(1.0, length.total_seconds() * 1000)
    return max(4, min(CHART_HEIGHT, round(4 + log10(milliseconds) * 4)))


def _in_words(runs: Sequence[Run]) -> str:
    if not runs:
        return "never ran"
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.state] = counts.get(run.state, 0) + 1
    lengths = sorted(
        run.ended_at - run.attempted_at for run in runs if run.ended_at and run.attempted_at
    )
    median = f"; median {took(lengths[len(lengths) // 2])}" if lengths else ""
    said = ", ".join(f"{number} {state}" for state, number in counts.items())
    return f"last {len(runs)}: {said}{median}"
