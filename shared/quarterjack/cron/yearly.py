"""The yearly rules of RFC 5545 by which holidays recur, such as FREQ=YEARLY;BYMONTH=11;BYDAY=4TH."""

import re
from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice

WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
PARTS = {"FREQ", "BYMONTH", "BYMONTHDAY", "BYDAY", "INTERVAL", "COUNT", "UNTIL", "WKST"}
NUMBER = re.compile(r"[+-]?[0-9]{1,4}")
NTH = re.compile(r"([+-]?[1-5])(MO|TU|WE|TH|FR|SA|SU)")
UNTIL = re.compile(r"[0-9]{8}(?:T[0-9]{6}Z?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class YearlyRule:
    """Days of each year; without days of the month or of the week, the day of its start."""

    months: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    nth_weekdays: tuple[tuple[int, int], ...] = ()
    interval: int = 1
    count: int | None = None
    until: date = date.max

    def days(self, start: date, last_year: int) -> Iterator[date]:
        """Give its days from `start` to the end of a year, in order."""
        every = (
            day
            for year in range(start.year, min(last_year, self.until.year) + 1, self.interval)
            for month in self.months or (start.month,)
            for day in self._in_month(year, month, start.day)
            if start <= day <= self.until
        )
        return islice(every, self.count)

    def _in_month(self, year: int, month: int, start_day: int) -> list[date]:
        first_weekday, length = monthrange(year, month)
        numbers = {day if day > 0 else length + 1 + day for day in self._wanted(start_day)}
        for nth, weekday in self.nth_weekdays:
            first = 1 + (weekday - first_weekday) % 7
            last = first + 7 * ((length - first) // 7)
            numbers.add(first + 7 * (nth - 1) if nth > 0 else last + 7 * (nth + 1))
        return [date(year, month, day) for day in sorted(numbers) if 1 <= day <= length]

    def _wanted(self, start_day: int) -> tuple[int, ...]:
        return self.month_days or (() if self.nth_weekdays else (start_day,))


def parse_rule(text: str) -> YearlyRule:
    """Read the value of an RRULE; ValueError says what to write instead."""
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.partition("=")
        if name not in PARTS or name in parts or not equals:
            raise ValueError(f"a rule is made of {', '.join(sorted(PARTS))}, each once")
        parts[name] = value
    if parts.get("FREQ") != "YEARLY":
        raise ValueError("only FREQ=YEARLY is understood: list each day as an event of its own")
    if "BYDAY" in parts and "BYMONTHDAY" in parts:
        raise ValueError("give either BYDAY or BYMONTHDAY")
    if "BYMONTH" not in parts and ("BYDAY" in parts or "BYMONTHDAY" in parts):
        raise ValueError("give the month as well, such as BYMONTH=11")
    return YearlyRule(
        months=_numbers(parts, "BYMONTH", 1, 12),
        month_days=_numbers(parts, "BYMONTHDAY", -31, 31),
        nth_weekdays=_nth_weekdays(parts),
        interval=next(iter(_numbers(parts, "INTERVAL", 1, 100)), 1),
        count=next(iter(_numbers(parts, "COUNT", 1, 9999)), None),
        until=_until(parts),
    )


def _numbers(parts: Mapping[str, str], name: str, low: int, high: int) -> tuple[int, ...]:
    if name not in parts:
        return ()
    items = parts[name].split(",")
    numbers = {int(item) for item in items if NUMBER.fullmatch(item)}
    if len(numbers) < len(items) or 0 in numbers or not low <= min(numbers) <= max(numbers) <= high:
        raise ValueError(f"{name} takes different numbers from {low} to {high}, none of them 0")
    if len(numbers) > 1 and name in ("INTERVAL", "COUNT"):
        raise ValueError(f"{name} takes one number")
    return tuple(sorted(numbers))


def _nth_weekdays(parts: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    if "BYDAY" not in parts:
        return ()
    matches = [NTH.fullmatch(item) for item in parts["BYDAY"].split(",")]
    found = {(int(match[1]), WEEKDAYS.index(match[2])) for match in matches if match is not None}
    if len(found) < len(matches):
        raise ValueError("BYDAY takes numbered days, such as 4TH or -1MO")
    return tuple(sorted(found))


def _until(parts: Mapping[str, str]) -> date:
    if "UNTIL" not in parts:
        return date.max
    try:
        if UNTIL.fullmatch(parts["UNTIL"]):
            return date.fromisoformat(parts["UNTIL"][:8])
    except ValueError:
        pass
    raise ValueError("UNTIL takes a date, such as 20301231")
