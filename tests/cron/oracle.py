"""The definition of a tick by brute force: every minute of real time, with the wall time it shows."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

ZONES = (
    "Europe/Prague",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Antarctica/Troll",
    "Pacific/Apia",
    "America/Santiago",
    "Etc/UTC",
)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
FIRST_YEAR, LAST_YEAR = 1941, 2037  # offsets are whole minutes
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A random expression, with the sets it was made from."""

    text: str
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    is_day: Callable[[date], bool]

    @property
    def any_hour(self) -> bool:
        return self.text.split()[-4].startswith("*")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some hours of real time in a zone: each wall time shown, and when; and the ones jumped over."""

    start: datetime
    end: datetime
    shown: dict[datetime, list[datetime]]
    missing: dict[datetime, datetime]

    def ticks(self, it: Wanted) -> dict[str, list[datetime]]:
        """Apply the three rules of the definition to each wall time, under each policy."""
        shown = [instants for wall, instants in self.shown.items() if _names(it, wall)]
        first = {instants[0] for instants in shown}
        every = {instant for instants in shown for instant in instants}
        moved = {end for wall, end in self.missing.items() if _names(it, wall)}
        if it.any_hour:
            return dict.fromkeys(("once", "skip", "both"), sorted(every))
        return {"once": sorted(first | moved), "skip": sorted(first), "both": sorted(every | moved)}


def stretch(zone: ZoneInfo, middle: datetime, hours: int, step: timedelta = MINUTE) -> Stretch:
    """Look at every step of some hours before and after an instant."""
    start, end = middle - timedelta(hours=hours), middle + timedelta(hours=hours)
    shown: dict[datetime, list[datetime]] = {}
    missing: dict[datetime, datetime] = {}
    instant, last = start, (start - step).astimezone(zone).replace(tzinfo=None, fold=0)
    while instant <= end:
        wall = instant.astimezone(zone).replace(tzinfo=None, fold=0)
        shown.setdefault(wall, []).append(instant)
        while last + step < wall:
            last += step
            missing[last] = instant
        last, instant = wall, instant + step
    return Stretch(start, end, shown, missing)


def stretch_around_change(name: str, number: int) -> Stretch:
    """Give five hours before and after one of the zone's changes, counted round."""
    changes = changes_of(name)
    return _ten_hours(name, changes[number % len(changes)])


@lru_cache(maxsize=400)
def _ten_hours(name: str, middle: datetime) -> Stretch:
    return stretch(ZoneInfo(name), middle, 5)


@lru_cache(maxsize=20)
def changes_of(name: str) -> list[datetime]:
    """Give all instants since 1941 at which clocks change; for UTC, some ends of months and years."""
    zone = ZoneInfo(name)
    days = [datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)]
    while days[-1].year <= LAST_YEAR:
        days.append(days[-1] + DAY)
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    found = [
        _change(zone, days[n], days[n + 1]) for n, (a, b) in enumerate(pairwise(offsets)) if a != b
    ]
    return found or [
        datetime(2023, 12, 31, 23, tzinfo=UTC),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2100, 2, 28, 23, tzinfo=UTC),
        datetime(2400, 2, 29, 12, tzinfo=UTC),
    ]


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    before = low.astimezone(zone).utcoffset()
    while high - low > MINUTE:
        middle = low + (high - low) // MINUTE // 2 * MINUTE
        low, high = (
            (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
        )
    return high


def _names(it: Wanted, wall: datetime) -> bool:
    return (
        wall.hour in it.hours
        and wall.minute in it.minutes
        and wall.second in it.seconds
        and it.is_day(wall.date())
    )


def wanted(seed: int, *, with_seconds: bool = False) -> Wanted:
    """Make a random expression, more often than not one with a tick on any given day."""
    dice = random.Random(seed)
    second, seconds = _field(dice, 0, 59) if with_seconds else ("", {0})
    minute, minutes = _field(dice, 0, 59)
    hour, hours = _field(dice, 0, 23) if dice.random() < 0.5 else _early(dice)
    day, days, last_day = _day_field(dice)
    month, months = _field(dice, 1, 12, MONTHS) if dice.random() < 0.3 else ("*", set(range(1, 13)))
    weekday, weekdays, nth = _weekday_field(dice)
    either = not day.startswith("*") and not weekday.startswith("*")

    def is_day(on: date) -> bool:
        by_day = on.day in days or (last_day and (on + DAY).day == 1)
        number = sum((on - DAY * 7 * n).month == on.month for n in range(5))
        by_weekday = on.isoweekday() % 7 in weekdays or (on.isoweekday() % 7, number) in nth
        matches = (by_day or by_weekday) if either else (by_day and by_weekday)
        return on.month in months and matches

    return Wanted(
        text=f"{second} {minute} {hour} {day} {month} {weekday}".strip(),
        seconds=frozenset(seconds),
        minutes=frozenset(minutes),
        hours=frozenset(hours),
        is_day=lru_cache(maxsize=None)(is_day),
    )


def _early(dice: random.Random) -> tuple[str, set[int]]:
    """Clocks change at night."""
    hour = dice.choice((0, 1, 1, 2, 2, 2, 3, 23))
    return str(hour), {hour}


def _day_field(dice: random.Random) -> tuple[str, set[int], bool]:
    kind = dice.random()
    if kind < 0.5:
        return "*", set(range(1, 32)), False
    if kind < 0.6:
        return "L", set(), True
    text, days = _field(dice, 1, 31)
    return (f"{text},L", days, True) if kind < 0.65 else (text, days, False)


def _weekday_field(dice: random.Random) -> tuple[str, set[int], set[tuple[int, int]]]:
    kind = dice.random()
    if kind < 0.5:
        return "*", set(range(7)), set()
    if kind < 0.65:
        weekday, number = dice.randint(0, 6), dice.randint(1, 5)
        return (
            f"{dice.choice((str(weekday), WEEKDAYS[weekday]))}#{number}",
            set(),
            {(weekday, number)},
        )
    if kind < 0.7:
        return "5-7", {5, 6, 0}, set()
    text, days = _field(dice, 0, 6, WEEKDAYS)
    return text, days, set()


def _field(
    dice: random.Random, low: int, high: int, names: tuple[str, ...] = ()
) -> tuple[str, set[int]]:
    def said(number: int) -> str:
        return names[number - low] if names and dice.random() < 0.5 else str(number)

    kind = dice.choice(("star", "star", "step", "number", "range", "range step", "list"))
    if kind == "star":
        return "*", set(range(low, high + 1))
    if kind == "step":
        step = dice.randint(1, (high - low) // 2)
        return f"*/{step}", set(range(low, high + 1, step))
    if kind == "number":
        number = dice.randint(low, high)
        return said(number), {number}
    first, last = sorted(dice.sample(range(low, high + 1), 2))
    if kind == "range":
        return f"{said(first)}-{said(last)}", set(range(first, last + 1))
    if kind == "range step":
        step = dice.randint(1, high - low)
        return f"{said(first)}-{said(last)}/{step}", set(range(first, last + 1, step))
    return f"{said(last)},{said(first)}", {first, last}
