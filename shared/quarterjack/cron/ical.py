"""Holidays out of an iCalendar text (RFC 5545): its events, with yearly rules, as dates.

Only what calendars of holidays are made of is understood, and anything else that would change a date is
refused with its line. Dates are taken as they are written: an event with a time is on its local days.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from quarterjack.cron.blackouts import LONGEST as LONGEST_TITLE
from quarterjack.cron.blackouts import MOST_DATES, YEARS, Holidays
from quarterjack.cron.grammar import CronError, shown
from quarterjack.cron.yearly import parse_rule

LONGEST = 1_000_000
MOST_YEARS = 50
MOST_DAYS = 366
MOST_RULES = 200
MOST_LOOKED_AT = 100_000
ONE_DAY = timedelta(days=1)
CONTENT = re.compile(r'([A-Za-z0-9-]+)((?:;[A-Za-z0-9-]+=(?:"[^"]*"|[^":;])*)*):(.*)', re.DOTALL)
DATE_TIME = re.compile(r"([0-9]{8})(?:T([0-9]{6})Z?)?")
LENGTH = re.compile(r"P([0-9]{1,3})([DW])")
EVENT = ["VCALENDAR", "VEVENT"]
READ = {"BEGIN", "DTSTART", "DTEND", "DURATION", "RRULE", "STATUS", "SUMMARY"}
REFUSED = ("RDATE", "EXDATE", "EXRULE", "RECURRENCE-ID")
FRAME = "an iCalendar text runs from BEGIN:VCALENDAR to END:VCALENDAR"
DEEPEST = 10
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One content line, unfolded; `number` is where it began."""

    number: int
    name: str
    value: str

    def refused(self, advice: str) -> CronError:
        """Make the error that names this line."""
        return CronError(
            f"line {self.number}: {shown(f'{self.name}:{self.value}')}: {advice}", "holidays"
        )


Event = Mapping[str, Line]


def read_holidays(text: str, *, name: str, years: range) -> Holidays:
    """Give the days of all events in these years; CronError names the line that cannot be read."""
    if len(text) > LONGEST:
        raise CronError(f"the calendar has {len(text)} characters: at most {LONGEST}", "holidays")
    if not 1 <= len(years) <= MOST_YEARS or years[0] not in YEARS or years[-1] not in YEARS:
        raise CronError(f"give 1 to {MOST_YEARS} years, from {YEARS[0]} to {YEARS[-1]}", "holidays")
    days: dict[date, str] = {}
    for count, (day, title, begin) in enumerate(_titled_days(text, years[-1]), start=1):
        if day.year in years:
            known = days.get(day)
            days[day] = title if known in (None, "", title) else _joined(known, title)
        if len(days) > MOST_DATES or count > MOST_LOOKED_AT:
            raise begin.refused(f"a calendar has at most {MOST_DATES} days")
    return Holidays(name=name, days=days)


def _titled_days(text: str, last_year: int) -> Iterator[tuple[date, str, Line]]:
    rules = 0
    for event in _events(text):
        rules += "RRULE" in event
        if rules > MOST_RULES:
            raise event["BEGIN"].refused(f"a calendar has at most {MOST_RULES} rules")
        title = _title(event)
        for day in _days(event, last_year):
            yield day, title, event["BEGIN"]


def _joined(known: str, title: str) -> str:
    return f"{known}, {title}"[:LONGEST_TITLE] if len(known) < LONGEST_TITLE else known


def _events(text: str) -> Iterator[Event]:
    """Give each VEVENT's own lines by name; what other components hold is passed over."""
    inside: list[str] = []
    event: dict[str, Line] = {}
    line = Line(number=1, name="", value=text)
    for line in _lines(text):
        if line.name == "BEGIN":
            inside.append(line.value.upper())
            if inside == EVENT:
                event = {}
        if not inside or inside[0] != "VCALENDAR" or len(inside) > DEEPEST:
            raise line.refused(FRAME)
        if inside == EVENT:
            if line.name in REFUSED or line.name in event:
                raise line.refused("not understood here: list each day as an event of its own")
            if line.name in READ:
                event[line.name] = line
        if line.name == "END":
            if line.value.upper() != inside[-1]:
                raise line.refused(f"END:{inside[-1]} is missing before it")
            if inside == EVENT:
                yield event
            inside.pop()
    if inside or line.name != "END":
        raise line.refused(FRAME)


def _lines(text: str) -> Iterator[Line]:
    parts: list[str] = []
    began = 0
    for number, raw in enumerate([*text.removeprefix("\ufeff").split("\n"), ""], start=1):
        line = raw.removesuffix("\r")
        if line[:1] in (" ", "\t") and parts:
            parts.append(line[1:])
            continue
        if parts:
            yield _line(began, "".join(parts))
        parts, began = ([line], number) if line.strip() else ([], number)
    if parts:
        yield _line(began, "".join(parts))


def _line(number: int, text: str) -> Line:
    match = CONTENT.fullmatch(text)
    if match is None:
        raise CronError(f"line {number}: {shown(text)} is no line of a calendar", "holidays")
    return Line(number=number, name=match[1].upper(), value=match[3].strip())


def _title(event: Event) -> str:
    value = event["SUMMARY"].value if "SUMMARY" in event else ""
    plain = ESCAPED.sub(lambda found: " " if found[1] in "nN" else found[1], value[:1_000])
    return "".join(each if each.isprintable() else " " for each in plain)[:LONGEST_TITLE].strip()


def _days(event: Event, last_year: int) -> Iterator[date]:
    if "DTSTART" not in event:
        raise event["BEGIN"].refused("an event without a DTSTART")
    if "STATUS" in event and event["STATUS"].value.upper() == "CANCELLED":
        return
    start = _moment(event["DTSTART"]).date()
    length = _length(event)
    starts = _repeated(event["RRULE"], start, last_year) if "RRULE" in event else [start]
    for first in starts:
        yield from (first + more * ONE_DAY for more in range(length))


def _length(event: Event) -> int:
    """Count the days of an event; an end at midnight is not part of it."""
    if "DURATION" in event:
        match = LENGTH.fullmatch(event["DURATION"].value)
        if match is None:
            raise event["DURATION"].refused("give whole days or weeks, such as P2D")
        line, days = event["DURATION"], int(match[1]) * (7 if match[2] == "W" else 1)
    elif "DTEND" in event:
        line, start, end = event["DTEND"], _moment(event["DTSTART"]), _moment(event["DTEND"])
        until = end if end == start else end - timedelta(seconds=1)
        days = (until.date() - start.date()).days + 1
    else:
        return 1
    if not 1 <= days <= MOST_DAYS:
        raise line.refused(f"an event has 1 to {MOST_DAYS} days")
    return days


def _moment(line: Line) -> datetime:
    match = DATE_TIME.fullmatch(line.value)
    try:
        moment = match and datetime.strptime(match[1] + (match[2] or "000000"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - a wall time
    except ValueError:
        moment = None
    if moment is None or moment.year not in YEARS:
        raise line.refused(f"give a date from {YEARS[0]} to {YEARS[-1]}, such as 20261224")
    return moment


def _repeated(line: Line, start: date, last_year: int) -> Iterator[date]:
    try:
        return parse_rule(line.value).days(start, last_year)
    except ValueError as error:
        raise line.refused(str(error)) from None
