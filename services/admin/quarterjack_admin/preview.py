"""What a schedule would mean: words, the next ten runs, and what to be careful about.

Computed by the scheduler's own evaluator, so it cannot say anything else than what will happen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, pairwise

from quarterjack import cron

Expression = cron.Cron | cron.Interval
SHOWN = 10
LOOK_AHEAD = timedelta(days=400)
OFTEN = timedelta(minutes=1)
YEAR = timedelta(days=366)
ZERO = timedelta(0)
MANY = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """One future run; `gap` is the time since the one before."""

    at: datetime
    gap: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`field` and `error` are set if the expression or the zone cannot be used."""

    words: str = ""
    zone: tzinfo = UTC
    zone_name: str = "Etc/UTC"
    coming: Sequence[Coming] = ()
    cautions: Sequence[str] = ()
    rate: str = ""
    field: str | None = None
    error: str | None = None


def preview(expression: str, zone_name: str, dst: str, now: datetime, *, name: str) -> Preview:
    """Look ahead from `now` for a schedule of this name; never raises."""
    try:
        zone = cron.zone(zone_name)
    except cron.CronError as error:
        return Preview(field="timezone", error=str(error))
    try:
        parsed = cron.read(expression, name)
    except cron.CronError as error:
        return Preview(field="cron", error=str(error))
    dst = dst if dst in cron.DST_POLICIES else "once"
    coming: list[Coming] = []
    at = parsed.next_after(now, zone, dst)
    while at is not None and len(coming) < SHOWN:
        coming.append(Coming(at=at, gap=at - coming[-1].at if coming else None))
        at = parsed.next_after(at, zone, dst)
    return Preview(
        words=parsed.describe(),
        zone=zone,
        zone_name=zone_name,
        coming=coming,
        cautions=_cautions(parsed, zone, dst, now, coming),
        rate=_rate(parsed, zone, dst, now),
    )


def _rate(parsed: Expression, zone: tzinfo, dst: str, now: datetime) -> str:
    """Say how often it runs, counting at most MANY ticks."""
    for span, name in (
        (timedelta(hours=1), "hour"),
        (timedelta(days=1), "24 hours"),
        (timedelta(days=7), "7 days"),
        (YEAR, "year"),
    ):
        number = _count(parsed.ticks(now, now + span, zone, dst), MANY + 1)
        if number > MANY:
            return f"more than {MANY} times in the next {name}"
        if number > 1:
            return f"{number} times in the next {name}"
    return "at most once in the next year"


def _count(ticks: Iterator[datetime], limit: int) -> int:
    return sum(1 for _ in islice(ticks, limit))


def _cautions(
    parsed: Expression, zone: tzinfo, dst: str, now: datetime, coming: Sequence[Coming]
) -> list[str]:
    said = []
    if coming and coming[0].at - now > YEAR:
        said.append("The first run is more than a year away.")
    if any(each.gap is not None and each.gap < OFTEN for each in coming):
        said.append("Runs more than once a minute.")
    if isinstance(parsed, cron.Cron) and not parsed.fields.any_hour:
        notes = (_around(parsed, zone, dst, change) for change in _changes(zone, now))
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
    twice = _count(parsed.ticks(change, change + shift - timedelta(seconds=1), zone, "both"), 1)
    what = "runs twice" if dst == "both" else "runs once, the first time"
    return f"{night}: what is due in between comes twice and {what}." if twice else None
