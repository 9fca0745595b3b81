"""What a schedule would mean: words, the next ten runs, and what to be careful about.

Computed by the scheduler's own evaluator, so it cannot say anything else than what will happen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise

from quarterjack import cron

SHOWN = 10
LOOK_AHEAD = timedelta(days=400)
OFTEN = timedelta(minutes=1)
YEAR = timedelta(days=366)


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


def preview(expression: str, zone_name: str, dst: str, now: datetime) -> Preview:
    """Look ahead from `now`; never raises."""
    try:
        zone = cron.zone(zone_name)
    except cron.CronError as error:
        return Preview(field="timezone", error=str(error))
    try:
        parsed = cron.parse(expression)
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


def _rate(parsed: cron.Cron, zone: tzinfo, dst: str, now: datetime) -> str:
    """Say how often it runs, counting at most a few thousand ticks."""
    for span, name in (
        (timedelta(days=1), "a day"),
        (timedelta(days=7), "a week"),
        (YEAR, "a year"),
    ):
        number, at = 0, parsed.next_after(now, zone, dst)
        while at is not None and at <= now + span and number <= 2_000:
            number, at = number + 1, parsed.next_after(at, zone, dst)
        if number > 2_000:
            return f"more than 2 000 times {name}"
        if number > 1:
            return f"{number} times {name}"
    return "at most once a year"


def _cautions(
    parsed: cron.Cron, zone: tzinfo, dst: str, now: datetime, coming: Sequence[Coming]
) -> list[str]:
    said = []
    if coming and coming[0].at - now > YEAR:
        said.append("The first run is more than a year away.")
    if any(each.gap is not None and each.gap < OFTEN for each in coming):
        said.append("Runs more than once a minute.")
    notes = (_around(parsed, zone, dst, change) for change in _changes(zone, now))
    return said + [note for note in notes if note]


def _changes(zone: tzinfo, now: datetime) -> list[datetime]:
    """Find the days in the next 13 months on which clocks change."""
    days = [now + timedelta(days=n) for n in range(LOOK_AHEAD.days)]
    return [
        a
        for a, b in pairwise(days)
        if a.astimezone(zone).utcoffset() != b.astimezone(zone).utcoffset()
    ]


def _around(parsed: cron.Cron, zone: tzinfo, dst: str, day: datetime) -> str | None:
    """Say so if the change of clocks on that day moves a run off its wall time, or repeats it."""
    ticks = list(parsed.ticks(day, day + timedelta(days=1), zone, dst))[:100]
    walls = [tick.astimezone(zone) for tick in ticks]
    moved = [wall for wall in walls if not parsed.matches(wall.replace(tzinfo=None))]
    date = f"{(day + timedelta(days=1)).astimezone(zone):%-d %b %Y}"
    if moved:
        return (
            f"Clocks change about {date}: the run in the gap is at {moved[0]:%H:%M:%S %Z} instead."
        )
    if len({wall.replace(tzinfo=None, fold=0) for wall in walls}) < len(walls):
        return f"Clocks change about {date}: a wall time comes twice, and so does its run."
    return None
