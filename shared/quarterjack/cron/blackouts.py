"""Times at which ticks make no job: weekly windows, windows of dates, and holidays.

A window is a text in the wall time of its schedule:

    sat,sun                         whole days
    mon-fri 08:00-18:00             on each of these days, up to but not at 18:00
    22:00-06:00                     every day, past midnight
    fri 22:00-mon 06:00             one long window in each week
    2026-12-24..2026-12-26          dates, the last one included
    2026-12-24 18:00..2026-12-27 06:00
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from types import MappingProxyType

from quarterjack.cron.grammar import CronError, shown

LONGEST = 100
MOST_DATES = 5_000
YEARS = range(1970, 2201)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY, WEEK = 24 * 60, 7 * 24 * 60
CLOCK = r"([0-2][0-9]:[0-5][0-9])"
DATE = r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
LONG_WINDOW = re.compile(rf"([a-z]+) {CLOCK}-([a-z]+) {CLOCK}")
DAILY_WINDOW = re.compile(rf"([a-z]+(?:[,-][a-z]+)*)?(?:(?:^| ){CLOCK}-{CLOCK})?")
DATES = re.compile(rf"{DATE}(?: {CLOCK})?(?:\.\.{DATE}(?: {CLOCK})?)?")
ADVICE = "write sat,sun or mon-fri 08:00-18:00 or fri 22:00-mon 06:00 or 2026-12-24..2026-12-26"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyWindow:
    """Spans of minutes counted from Monday 00:00; the last one may reach into the next week."""

    text: str
    spans: tuple[tuple[int, int], ...]

    def covers(self, wall: datetime) -> bool:
        """Say whether a wall-clock time is inside."""
        minute = wall.weekday() * DAY + wall.hour * 60 + wall.minute
        return any(start <= minute < end or minute < end - WEEK for start, end in self.spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedWindow:
    """Wall-clock times from `start` up to but not at `end`."""

    text: str
    start: datetime
    end: datetime

    def covers(self, wall: datetime) -> bool:
        """Say whether a wall-clock time is inside."""
        return self.start <= wall < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Holidays:
    """A calendar with a name, and what each of its days is called."""

    name: str
    days: Mapping[date, str] = field(hash=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST or not self.name.isprintable():
            raise CronError(
                f"{shown(self.name)} names no calendar: give 1 to {LONGEST} printable characters",
                "holidays",
            )
        if len(self.days) > MOST_DATES:
            raise CronError(
                f"the calendar {self.name} has {len(self.days)} days: at most {MOST_DATES}",
                "holidays",
            )
        for day, title in self.days.items():
            if type(day) is not date or day.year not in YEARS or len(title) > LONGEST:
                raise CronError(
                    f"{day} in the calendar {self.name}: give dates from {YEARS[0]} to {YEARS[-1]} "
                    f"with titles of at most {LONGEST} characters",
                    "holidays",
                )
        object.__setattr__(self, "days", MappingProxyType(dict(self.days)))


@lru_cache(maxsize=1_000)
def parse_window(text: str) -> WeeklyWindow | DatedWindow:
    """Read one window; CronError says what to write instead."""
    if len(text) > LONGEST:
        raise CronError(f"a window has {len(text)} characters: at most {LONGEST}", "blackouts")
    plain = " ".join(text.lower().split())
    if match := LONG_WINDOW.fullmatch(plain):
        spans = [_long_span(plain, *match.groups())]
    elif match := DATES.fullmatch(plain):
        return _dated(match, plain)
    elif plain and (match := DAILY_WINDOW.fullmatch(plain)):
        spans = _daily_spans(plain, *match.groups())
    else:
        raise CronError(f"{shown(text)} is no window: {ADVICE}", "blackouts")
    return WeeklyWindow(text=plain, spans=tuple(spans))


def _long_span(text: str, day: str, clock: str, last_day: str, last_clock: str) -> tuple[int, int]:
    start = _weekday(day, text) * DAY + _minutes(clock, text, most=DAY - 1)
    end = _weekday(last_day, text) * DAY + _minutes(last_clock, text)
    if start == end:
        raise CronError(f"{shown(text)} ends when it begins: write mon-sun", "blackouts")
    return start, end if end > start else end + WEEK


def _daily_spans(
    text: str, days: str | None, clock: str | None, last_clock: str | None
) -> list[tuple[int, int]]:
    start = _minutes(clock, text, most=DAY - 1) if clock else 0
    end = _minutes(last_clock, text) if last_clock else DAY
    if start == end:
        raise CronError(f"{shown(text)} ends when it begins: write 00:00-24:00", "blackouts")
    if end < start:
        end += DAY
    return [(day * DAY + start, day * DAY + end) for day in _weekdays(days or "mon-sun", text)]


def _weekdays(days: str, text: str) -> list[int]:
    chosen: set[int] = set()
    for item in days.split(","):
        first, *rest = (_weekday(day, text) for day in item.split("-"))
        if len(rest) > 1:
            raise CronError(f"{shown(item)} in {shown(text)}: {ADVICE}", "blackouts")
        length = (rest[0] - first) % 7 if rest else 0
        chosen.update((first + more) % 7 for more in range(length + 1))
    return sorted(chosen)


def _weekday(day: str, text: str) -> int:
    if day not in DAYS:
        raise CronError(
            f"{shown(day)} in {shown(text)} is no day: write {', '.join(DAYS)}", "blackouts"
        )
    return DAYS.index(day)


def _minutes(clock: str, text: str, most: int = DAY) -> int:
    minutes = int(clock[:2]) * 60 + int(clock[3:])
    if minutes > most:
        until = "24:00" if most == DAY else "23:59"
        raise CronError(f"{clock} in {shown(text)}: write 00:00 to {until}", "blackouts")
    return minutes


def _dated(match: re.Match[str], text: str) -> DatedWindow:
    day, clock, last_day, last_clock = match.groups()
    if clock and not last_day:
        raise CronError(
            f"{shown(text)} has no end: write {text}..{day} 24:00, or without a time", "blackouts"
        )
    start = _midnight(day, text) + timedelta(
        minutes=_minutes(clock, text, most=DAY - 1) if clock else 0
    )
    end = _midnight(last_day or day, text) + timedelta(
        minutes=_minutes(last_clock, text) if last_clock else DAY
    )
    if end <= start:
        raise CronError(f"{shown(text)} ends before it begins: exchange its ends", "blackouts")
    return DatedWindow(text=text, start=start, end=end)


def _midnight(day: str, text: str) -> datetime:
    try:
        found = date.fromisoformat(day)
    except ValueError:
        found = None
    if found is None or found.year not in YEARS:
        raise CronError(
            f"{day} in {shown(text)} is no date from {YEARS[0]} to {YEARS[-1]}: write it as 2026-12-24",
            "blackouts",
        )
    return datetime.combine(found, time.min)
