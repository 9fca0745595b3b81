"""When an expression runs, as instants.

The expression matches local wall-clock times; a wall time W becomes instants so:

    W exists once               that instant
    W exists twice (fold)       fixed hours: the first of both; with dst="both", and for `*` hours, both
    W does not exist (gap)      fixed hours: the gap's end; with dst="skip", and for `*` hours, none

which is the rule of Vixie's cron for its jobs with a fixed hour. An hour field that begins with `*` follows
real time under every policy. When both day fields are restricted (do not begin with `*`) either may match,
else both must.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from quarterjack.cron.grammar import Fields
from quarterjack.cron.words import describe

DST_POLICIES = ("once", "skip", "both")
TICK = timedelta(microseconds=1)
PROBED_FROM = datetime(2096, 1, 1)  # noqa: DTZ001 - a wall time
HORIZON_YEARS = 41  # 29 February on a given weekday comes back after at most 40 years, around 2100


class Cron:
    """An expression that can be asked for its ticks."""

    __slots__ = ("fields",)

    def __init__(self, fields: Fields) -> None:
        self.fields = fields

    def __repr__(self) -> str:
        return f"Cron({self.fields.text!r})"

    def describe(self) -> str:
        """Say it in English words."""
        return describe(self.fields)

    def next_after(self, instant: datetime, tz: tzinfo, dst: str = "once") -> datetime | None:
        """Give the first tick strictly after an aware instant, in UTC; None beyond the calendar."""
        now = instant.astimezone(UTC)
        try:
            local = now.astimezone(tz)
            found = self._first_pass(now, local, tz, dst)
            repeated = self._repeated(now, local, tz, dst)
        except (OverflowError, ValueError):
            return None
        if repeated is not None and (found is None or repeated < found):
            return repeated
        return found

    def prev_before(self, instant: datetime, tz: tzinfo, dst: str = "once") -> datetime | None:
        """Give the last tick strictly before an aware instant, in UTC, by bisecting `next_after`."""
        end = instant.astimezone(UTC)
        span = timedelta(seconds=2)
        while True:
            try:
                low = end - span
            except OverflowError:
                return None
            found = self.next_after(low, tz, dst)
            if found is not None and found < end:
                break
            if span > timedelta(days=366 * HORIZON_YEARS):
                return None
            span *= 4
        low, high = found, end
        while high - low > TICK:
            middle = low + (high - low) / 2
            later = self.next_after(middle, tz, dst)
            if later is not None and later < end:
                low = later
            else:
                high = middle
        return low

    def ticks(
        self, start: datetime, end: datetime, tz: tzinfo, dst: str = "once"
    ) -> Iterator[datetime]:
        """Give every tick of [start, end] in order, lazily."""
        tick = self.next_after(start - TICK, tz, dst)
        while tick is not None and tick <= end:
            yield tick
            tick = self.next_after(tick, tz, dst)

    def matches(self, wall: datetime) -> bool:
        """Say whether a wall-clock time is one that the expression names."""
        fields = self.fields
        return (
            wall.second in fields.seconds
            and wall.minute in fields.minutes
            and wall.hour in fields.hours
            and wall.month in fields.months
            and wall.day in self._days(wall.year, wall.month)
        )

    def never_runs(self) -> bool:
        """Say whether no date of the next 41 years is named, which is more than any cycle of dates."""
        return self._next_wall(PROBED_FROM, limit=2096 + HORIZON_YEARS) is None

    def _first_pass(self, now: datetime, local: datetime, tz: tzinfo, dst: str) -> datetime | None:
        wall: datetime | None = local.replace(tzinfo=None, fold=0)
        while wall is not None:
            wall = self._next_wall(wall)
            if wall is None:
                return None
            before = _offset(wall, tz, 0)
            after = _offset(wall, tz, 1)
            if before == after:
                return _instant(wall, before)
            change = _change(wall, before, after, tz)
            if before > after:  # W exists twice
                instants = (_instant(wall, before), _instant(wall, after))
                for found in instants if self._repeats(dst) else instants[:1]:
                    if found > now:
                        return found
                if not self._repeats(dst):
                    wall = _wall(change, before) - TICK
            else:  # W does not exist
                if not self.fields.any_hour and dst != "skip" and change > now:
                    return change
                wall = _wall(change, after) - TICK
        return None

    def _repeated(self, now: datetime, local: datetime, tz: tzinfo, dst: str) -> datetime | None:
        """During the first pass of repeated wall times: the first tick of the second pass up to W(now)."""
        if local.fold or not self._repeats(dst):
            return None
        wall = local.replace(tzinfo=None)
        before, after = _offset(wall, tz, 0), _offset(wall, tz, 1)
        if before <= after:
            return None
        change = _change(wall.replace(microsecond=0), before, after, tz)
        found = self._next_wall(_wall(change, after) - TICK)
        return None if found is None or found > wall else _instant(found, after)

    def _repeats(self, dst: str) -> bool:
        return self.fields.any_hour or dst == "both"

    def _next_wall(self, after: datetime, limit: int = 9999) -> datetime | None:
        """Give the first matching wall time strictly after this one."""
        wall = after.replace(microsecond=0) + timedelta(seconds=1)
        days = self._days(wall.year, wall.month) if wall.month in self.fields.months else ()
        if wall.day in days:
            found = self._next_time(wall)
            if found is not None:
                return found
        year, month, place = wall.year, wall.month, bisect_right(days, wall.day)
        while place >= len(days):
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            if year > limit:
                return None
            days = self._days(year, month) if month in self.fields.months else ()
            place = 0
        fields = self.fields
        return datetime(  # noqa: DTZ001 - a wall time
            year, month, days[place], fields.hours[0], fields.minutes[0], fields.seconds[0]
        )

    def _next_time(self, wall: datetime) -> datetime | None:
        """Give the first matching time of day at or after this one, on the same day."""
        hours, minutes, seconds = self.fields.hours, self.fields.minutes, self.fields.seconds
        h = bisect_left(hours, wall.hour)
        if h == len(hours):
            return None
        if hours[h] > wall.hour:
            return wall.replace(hour=hours[h], minute=minutes[0], second=seconds[0])
        m = bisect_left(minutes, wall.minute)
        if m < len(minutes) and minutes[m] == wall.minute:
            s = bisect_left(seconds, wall.second)
            if s < len(seconds):
                return wall.replace(second=seconds[s])
            m += 1
        if m < len(minutes):
            return wall.replace(minute=minutes[m], second=seconds[0])
        if h + 1 < len(hours):
            return wall.replace(hour=hours[h + 1], minute=minutes[0], second=seconds[0])
        return None

    def _days(self, year: int, month: int) -> tuple[int, ...]:
        monday_first, length = monthrange(year, month)
        return _days_of_month(self.fields, (monday_first + 1) % 7, length)


@lru_cache(maxsize=8192)
def _days_of_month(fields: Fields, first_weekday: int, length: int) -> tuple[int, ...]:
    """Give the matching days of any month that begins on this weekday and has this many days."""
    chosen = []
    for day in range(1, length + 1):
        weekday = (first_weekday + day - 1) % 7
        by_day = day in fields.days or (fields.last_day and day == length)
        by_weekday = (
            weekday in fields.weekdays or (weekday, (day - 1) // 7 + 1) in fields.nth_weekdays
        )
        either = not fields.any_day and not fields.any_weekday
        if (by_day or by_weekday) if either else (by_day and by_weekday):
            chosen.append(day)
    return tuple(chosen)


def _offset(wall: datetime, tz: tzinfo, fold: int) -> timedelta:
    offset = wall.replace(tzinfo=tz, fold=fold).utcoffset()
    assert offset is not None
    return offset


def _instant(wall: datetime, offset: timedelta) -> datetime:
    return (wall - offset).replace(tzinfo=UTC)


def _wall(instant: datetime, offset: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + offset


def _change(wall: datetime, before: timedelta, after: timedelta, tz: tzinfo) -> datetime:
    """Find the instant at which the offset changes, near a wall time that is missing or repeated."""
    low = _instant(wall, max(before, after)) - timedelta(seconds=1)
    high = low + abs(before - after) + timedelta(seconds=1)
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(tz).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
