"""All that decides when a schedule runs, as one value.

expression, zone, dst       which instants the expression names
jitter                      moves them all by the same part of it, made from the schedule's name
start_at, end_at            there are no ticks outside
blackouts, holidays         ticks inside happen and are recorded, but make no job
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import sha256
from typing import Protocol, Self

from quarterjack.cron.blackouts import YEARS, DatedWindow, Holidays, WeeklyWindow, parse_window
from quarterjack.cron.evaluator import DST_POLICIES, FIRST, Cron
from quarterjack.cron.grammar import CronError, shown
from quarterjack.cron.interval import Interval
from quarterjack.cron.reading import read
from quarterjack.cron.walls import MOMENT
from quarterjack.cron.zones import zone as zone_named

LONGEST_NAME = 255
LONGEST_JITTER = timedelta(days=1)
MOST_WINDOWS = 50
MOST_CALENDARS = 20
DST_SAID = {"skip": "not where clocks jump over it", "both": "twice where clocks repeat it"}
MILLISECOND = timedelta(milliseconds=1)
EARLIEST = datetime(YEARS[0], 1, 1, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


class Timed(Protocol):
    """A row that says when a schedule runs; `calendars` are names."""

    @property
    def name(self) -> str: ...
    @property
    def cron(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def dst(self) -> str: ...
    @property
    def jitter(self) -> timedelta: ...
    @property
    def start_at(self) -> datetime | None: ...
    @property
    def end_at(self) -> datetime | None: ...
    @property
    def blackouts(self) -> Sequence[str]: ...
    @property
    def calendars(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a schedule runs; CronError, whose `field` is one of these names, says what to write instead."""

    name: str
    expression: str
    zone: str = "Etc/UTC"
    dst: str = "once"
    jitter: timedelta = timedelta(0)
    start_at: datetime | None = None
    end_at: datetime | None = None
    blackouts: tuple[str, ...] = ()
    holidays: tuple[Holidays, ...] = ()
    offset: timedelta = field(init=False, repr=False, compare=False)
    parsed: Cron | Interval = field(init=False, repr=False, compare=False)
    tz: tzinfo = field(init=False, repr=False, compare=False)
    _windows: tuple[WeeklyWindow | DatedWindow, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_dst(self.dst)
        _check_jitter(self.jitter)
        _check_counts(self.blackouts, self.holidays)
        derive = object.__setattr__
        derive(self, "offset", _offset(self.name, self.jitter))
        derive(self, "parsed", read(self.expression, self.name))
        derive(self, "tz", zone_named(self.zone))
        derive(self, "_windows", tuple(map(parse_window, self.blackouts)))
        derive(self, "start_at", _in_utc(self.start_at, "start_at"))
        derive(self, "end_at", _in_utc(self.end_at, "end_at"))
        if self.end_at is not None:
            self._check_end(self.end_at)

    @classmethod
    def of(cls, row: Timed, calendars: Mapping[str, Holidays]) -> Self:
        """Read a row; CronError also if it names a calendar that is not among `calendars`."""
        for name in row.calendars:
            if name not in calendars:
                raise CronError(
                    f"there is no calendar {shown(name)}: take it out of the schedule, or make it "
                    "and save the schedule again",
                    "calendars",
                )
        return cls(
            name=row.name,
            expression=row.cron,
            zone=row.timezone,
            dst=row.dst,
            jitter=row.jitter,
            start_at=row.start_at,
            end_at=row.end_at,
            blackouts=tuple(row.blackouts),
            holidays=tuple(calendars[name] for name in row.calendars),
        )

    def next_after(self, instant: datetime) -> datetime | None:
        """Give the first tick strictly after an aware instant, in UTC; None if there is none."""
        if self.start_at is not None and instant < self.start_at:
            instant = self.start_at - MOMENT
        try:
            tick = self.parsed.next_after(instant - self.offset, self.tz, self.dst)
            tick = tick and tick + self.offset
        except OverflowError:
            return None
        return None if tick is None or tick > (self.end_at or LAST) else tick

    def prev_before(self, instant: datetime) -> datetime | None:
        """Give the last tick strictly before an aware instant, in UTC; None if there is none."""
        if self.end_at is not None and instant > self.end_at:
            instant = self.end_at + MOMENT
        try:
            tick = self.parsed.prev_before(instant - self.offset, self.tz, self.dst)
        except OverflowError:
            return None
        tick = tick and tick + self.offset
        return None if tick is None or tick < (self.start_at or FIRST) else tick

    def ticks(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Give every tick of [start, end] in order, lazily; those in a blackout as well."""
        tick = self.next_after(start - MOMENT)
        while tick is not None and tick <= end:
            yield tick
            tick = self.next_after(tick)

    def count(self, start: datetime, end: datetime) -> int | None:
        """Count the ticks of [start, end], those in a blackout as well; None if that would take long."""
        after = max(start, self.start_at or FIRST) - MOMENT - self.offset
        until = min(end, self.end_at or LAST) - self.offset
        return self.parsed.count(after, until, self.tz, self.dst) if after < until else 0

    def runs(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Give the ticks of [start, end] that make a job."""
        return (tick for tick in self.ticks(start, end) if self.blackout(tick) is None)

    def over(self) -> str:
        """Say why there is no further tick."""
        if self.end_at is not None:
            return f"it ended at {self._said(self.end_at)} ({self.zone})"
        return "the calendar has no tick left for it"

    def blackout(self, tick: datetime) -> str | None:
        """Give the reason why a tick makes no job; None if it does."""
        if not self._windows and not self.holidays:
            return None
        wall = tick.astimezone(self.tz).replace(tzinfo=None)
        for calendar in self.holidays:
            title = calendar.days.get(wall.date())
            if title is not None:
                return f"{title or wall.date()} in the calendar {calendar.name}"
        for window in self._windows:
            if window.covers(wall):
                return f"in the window {window.text}"
        return None

    def describe(self) -> str:
        """Say it in English words."""
        parts = [self.parsed.describe()]
        if isinstance(self.parsed, Cron):
            parts.append(f"{self.zone} time")
            if not self.parsed.fields.any_hour and self.dst in DST_SAID:
                parts.append(DST_SAID[self.dst])
        return ", ".join([*parts, *self.limits()])

    def limits(self) -> list[str]:
        """Say what the expression does not: when it begins and ends, and what is left out."""
        parts = []
        if self.offset:
            parts.append(f"{self.offset.total_seconds():g} s later")
        if self.start_at is not None:
            parts.append(f"from {self._said(self.start_at)}")
        if self.end_at is not None:
            parts.append(f"until {self._said(self.end_at)}")
        if self._windows:
            parts.append(f"except {' and '.join(window.text for window in self._windows)}")
        if self.holidays:
            names = " and ".join(calendar.name for calendar in self.holidays)
            parts.append(f"except on the days of {names}")
        return parts

    def _said(self, instant: datetime) -> str:
        return f"{instant.astimezone(self.tz):%Y-%m-%d %H:%M:%S}".removesuffix(":00")

    def _check_end(self, end: datetime) -> None:
        if self.start_at is not None and end < self.start_at:
            raise CronError(
                f"{self._said(end)} is before the start, {self._said(self.start_at)}: exchange them",
                "end_at",
            )
        if self.next_after((self.start_at or EARLIEST) - MOMENT) is None:
            since = f"from {self._said(self.start_at)} " if self.start_at else ""
            raise CronError(
                f"there is no tick {since}to {self._said(end)}: give a later end", "end_at"
            )


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= LONGEST_NAME:
        raise CronError(
            f"a schedule's name has {len(name)} characters: give 1 to {LONGEST_NAME}", "name"
        )


def _check_dst(dst: str) -> None:
    if dst not in DST_POLICIES:
        raise CronError(
            f"{shown(dst)} is no policy for clock changes: write {', '.join(DST_POLICIES)}", "dst"
        )


def _check_jitter(jitter: timedelta) -> None:
    if not timedelta(0) <= jitter <= LONGEST_JITTER:
        raise CronError(
            f"a jitter of {jitter.total_seconds():g} s: give 0 to {LONGEST_JITTER.total_seconds():g} s",
            "jitter",
        )


def _check_counts(blackouts: tuple[str, ...], holidays: tuple[Holidays, ...]) -> None:
    if len(blackouts) > MOST_WINDOWS:
        raise CronError(f"{len(blackouts)} blackout windows: at most {MOST_WINDOWS}", "blackouts")
    if len(holidays) > MOST_CALENDARS:
        raise CronError(f"{len(holidays)} calendars: at most {MOST_CALENDARS}", "holidays")


def _in_utc(instant: datetime | None, field_name: str) -> datetime | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise CronError(
            f"{instant} has no time zone: give one, such as {instant}+00:00", field_name
        )
    if instant.year not in YEARS:
        raise CronError(f"{instant}: give a year from {YEARS[0]} to {YEARS[-1]}", field_name)
    return instant.astimezone(UTC)


def _offset(name: str, jitter: timedelta) -> timedelta:
    """Give a part of the jitter, always the same for a name, in whole milliseconds."""
    digest = sha256(f"jitter {name}".encode(errors="surrogatepass")).digest()
    return (jitter // MILLISECOND) * int.from_bytes(digest[:8], "big") // 2**64 * MILLISECOND
