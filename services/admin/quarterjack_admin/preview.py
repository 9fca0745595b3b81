"""What a schedule would mean: words, the next ten runs, and what to be careful about.

Computed by the scheduler's own evaluator, so it cannot say anything else than what will happen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, pairwise
from typing import Any

from pydantic import ValidationError

from quarterjack import cron
from quarterjack.definition import TIMING, Definition
from quarterjack_admin.forms import LABELS, plain

SHOWN = 10
LOOK_AHEAD = timedelta(days=400)
OFTEN = timedelta(minutes=1)
YEAR = timedelta(days=366)
ZERO = timedelta(0)
MANY = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """One future tick; `gap` is the time since the one before, `barred` says why it makes no job."""

    at: datetime
    gap: timedelta | None
    barred: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`error` is set if it cannot be used as it is."""

    words: str = ""
    zone: tzinfo = UTC
    zone_name: str = "Etc/UTC"
    coming: Sequence[Coming] = ()
    cautions: Sequence[str] = ()
    rate: str = ""
    error: str | None = None


def preview_typed(
    typed: Mapping[str, Any], calendars: Mapping[str, cron.Holidays], now: datetime, *, name: str
) -> Preview:
    """Look ahead for what was typed into the form of a schedule; never raises."""
    try:
        definition = Definition.model_validate(
            {each: typed[each] for each in TIMING if each in typed}
        )
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        return Preview(error=f"{LABELS[str(problem['loc'][0])]}: {plain(problem['msg'])}")
    return preview(definition.named(name or "any"), calendars, now)


def preview(row: cron.Timed, calendars: Mapping[str, cron.Holidays], now: datetime) -> Preview:
    """Look ahead from `now`; never raises."""
    try:
        timing = cron.Timing.of(row, calendars)
    except cron.CronError as error:
        return Preview(error=str(error))
    coming: list[Coming] = []
    at = timing.next_after(now)
    while at is not None and len(coming) < SHOWN:
        gap = at - coming[-1].at if coming else None
        coming.append(Coming(at=at, gap=gap, barred=timing.blackout(at)))
        at = timing.next_after(at)
    return Preview(
        words=in_words(timing),
        zone=timing.tz,
        zone_name=timing.zone,
        coming=coming,
        cautions=_cautions(timing, now, coming),
        rate=_rate(timing, now),
    )


def in_words(timing: cron.Timing) -> str:
    """Say when it runs; the page shows the zone beside it."""
    return ", ".join([timing.parsed.describe(), *timing.limits()])


def _rate(timing: cron.Timing, now: datetime) -> str:
    """Say how often it runs, looking at no more than MANY ticks."""
    for span, name in (
        (timedelta(hours=1), "hour"),
        (timedelta(days=1), "24 hours"),
        (timedelta(days=7), "7 days"),
        (YEAR, "year"),
    ):
        ticks = list(islice(timing.ticks(now, now + span), MANY + 1))
        if len(ticks) > MANY:
            return f"more than {MANY} times in the next {name}"
        number = sum(1 for tick in ticks if timing.blackout(tick) is None)
        if number > 1:
            return f"{number} times in the next {name}"
    return "at most once in the next year"


def _cautions(timing: cron.Timing, now: datetime, coming: Sequence[Coming]) -> list[str]:
    said = []
    parsed, zone = timing.parsed, timing.tz
    if coming and all(each.barred for each in coming):
        said.append(f"None of the next {len(coming)} ticks makes a job: {coming[0].barred}.")
    if coming and coming[0].at - now > YEAR:
        said.append("The first run is more than a year away.")
    if any(each.gap is not None and each.gap < OFTEN for each in coming):
        said.append("Runs more than once a minute.")
    if isinstance(parsed, cron.Cron) and not parsed.fields.any_hour:
        notes = (_around(parsed, zone, timing.dst, change) for change in _changes(zone, now))
        said += [note for note in notes if note]
    return said


def _changes(zone: tzinfo, now: datetime) -> list[datetime]:
    """Find the instants in the next 13 months at which clocks change."""
    start = now.replace(microsecond=0)
    days = [start + timedelta(days=n) for n in range(LOOK_AHEAD.days)]
    return [
        _between(a, b, zone)
        for a, b in pairwise(days)
        if a.astimezone(zone).utcoffset() != b.astimezone(zone).utcoffset()
    ]


def _between(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """Find the first second with the later offset."""
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (
            (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
        )
    return high


def _around(parsed: cron.Cron, zone: tzinfo, dst: str, change: datetime) -> str | None:
    """Say what becomes of a run whose wall time does not exist that night, or comes twice."""
    then = (change - timedelta(seconds=1)).astimezone(zone)
    now = change.astimezone(zone)
    shift = abs((now.utcoffset() or ZERO) - (then.utcoffset() or ZERO))
    night = f"On {now:%-d %b %Y} clocks go from {then + timedelta(seconds=1):%H:%M} to {now:%H:%M}"
    if then.utcoffset() < now.utcoffset():  # type: ignore[operator] # both are aware
        moved = next(parsed.ticks(change, change, zone), None)
        if moved is None or parsed.matches(now.replace(tzinfo=None)):
            return None
        what = "is skipped" if dst == "skip" else f"is at {now:%H:%M} instead"
        return f"{night}: the run between them {what}."
    repeated = parsed.ticks(change, change + shift - timedelta(seconds=1), zone, "both")
    if next(repeated, None) is None:
        return None
    what = "runs twice" if dst == "both" else "runs once, the first time"
    return f"{night}: what is due in between comes twice and {what}."
