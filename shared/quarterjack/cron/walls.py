"""Which wall-clock times an expression names, on a calendar without time zones.

When both day fields are restricted (do not begin with `*`) either may match, else both must.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from datetime import datetime, timedelta

from quarterjack.cron.grammar import Fields

SECOND = timedelta(seconds=1)
MOMENT = timedelta(microseconds=1)
"""The least that one datetime differs from another."""
DAY = timedelta(days=1)


class Walls:
    """The wall-clock times of one expression, in order."""

    __slots__ = ("_months", "fields")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self._months: dict[tuple[int, int], tuple[int, ...]] = {}

    def matches(self, wall: datetime) -> bool:
        """Say whether this time is one of them."""
        fields = self.fields
        return (
            wall.second in fields.seconds
            and wall.minute in fields.minutes
            and wall.hour in fields.hours
            and wall.day in self._days(wall.year, wall.month)
        )

    def next_after(self, wall: datetime, limit: int = 9999) -> datetime | None:
        """Give the first one strictly after this time; None if there is none up to the year `limit`."""
        wall = wall.replace(microsecond=0) + SECOND
        days = self._days(wall.year, wall.month)
        if wall.day in days:
            found = self._at_or_after(wall)
            if found is not None:
                return found
        year, month, place = wall.year, wall.month, bisect_right(days, wall.day)
        while place >= len(days):
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            if year > limit:
                return None
            days, place = self._days(year, month), 0
        fields = self.fields
        return datetime(  # noqa: DTZ001 - a wall time
            year, month, days[place], fields.hours[0], fields.minutes[0], fields.seconds[0]
        )

    def prev_before(self, wall: datetime, limit: int = 1) -> datetime | None:
        """Give the last one strictly before this time; None if there is none from the year `limit` on."""
        wall = (wall - MOMENT).replace(microsecond=0)
        days = self._days(wall.year, wall.month)
        if wall.day in days:
            found = self._at_or_before(wall)
            if found is not None:
                return found
        year, month, place = wall.year, wall.month, bisect_left(days, wall.day) - 1
        while place < 0:
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
            if year < limit:
                return None
            days = self._days(year, month)
            place = len(days) - 1
        fields = self.fields
        return datetime(  # noqa: DTZ001 - a wall time
            year, month, days[place], fields.hours[-1], fields.minutes[-1], fields.seconds[-1]
        )

    def count(self, after: datetime, until: datetime) -> int:
        """Count those in (after, until]; takes a step a day."""
        fields, day = self.fields, after.date()
        whole = len(fields.hours) * len(fields.minutes) * len(fields.seconds)
        total = self._passed(until) - self._passed(after)
        while day < until.date():
            total += whole if day.day in self._days(day.year, day.month) else 0
            day += DAY
        return total

    def _passed(self, wall: datetime) -> int:
        """Count those of this time's day up to it."""
        hours, minutes, seconds = self.fields.hours, self.fields.minutes, self.fields.seconds
        if wall.day not in self._days(wall.year, wall.month):
            return 0
        h, m = bisect_left(hours, wall.hour), bisect_left(minutes, wall.minute)
        passed = h * len(minutes)
        if wall.hour not in hours:
            return passed * len(seconds)
        passed = (passed + m) * len(seconds)
        return passed + bisect_right(seconds, wall.second) if wall.minute in minutes else passed

    def _at_or_after(self, wall: datetime) -> datetime | None:
        """Give the first time of the same day, which is known to match."""
        hours, minutes, seconds = self.fields.hours, self.fields.minutes, self.fields.seconds
        h = bisect_left(hours, wall.hour)
        if h < len(hours) and hours[h] == wall.hour:
            m = bisect_left(minutes, wall.minute)
            if m < len(minutes) and minutes[m] == wall.minute:
                s = bisect_left(seconds, wall.second)
                if s < len(seconds):
                    return wall.replace(second=seconds[s])
                m += 1
            if m < len(minutes):
                return wall.replace(minute=minutes[m], second=seconds[0])
            h += 1
        if h < len(hours):
            return wall.replace(hour=hours[h], minute=minutes[0], second=seconds[0])
        return None

    def _at_or_before(self, wall: datetime) -> datetime | None:
        """Give the last time of the same day, which is known to match."""
        hours, minutes, seconds = self.fields.hours, self.fields.minutes, self.fields.seconds
        h = bisect_right(hours, wall.hour) - 1
        if h >= 0 and hours[h] == wall.hour:
            m = bisect_right(minutes, wall.minute) - 1
            if m >= 0 and minutes[m] == wall.minute:
                s = bisect_right(seconds, wall.second) - 1
                if s >= 0:
                    return wall.replace(second=seconds[s])
                m -= 1
            if m >= 0:
                return wall.replace(minute=minutes[m], second=seconds[-1])
            h -= 1
        if h >= 0:
            return wall.replace(hour=hours[h], minute=minutes[-1], second=seconds[-1])
        return None

    def _days(self, year: int, month: int) -> tuple[int, ...]:
        if month not in self.fields.months:
            return ()
        shape = monthrange(year, month)
        days = self._months.get(shape)
        if days is None:
            days = self._months[shape] = _days_of_month(self.fields, *shape)
        return days


def _days_of_month(fields: Fields, first_weekday: int, length: int) -> tuple[int, ...]:
    """Give the matching days of any month that begins on this weekday (Monday is 0) and is this long."""
    chosen = []
    for day in range(1, length + 1):
        weekday = (first_weekday + day) % 7
        by_day = day in fields.days or (fields.last_day and day == length)
        by_weekday = (
            weekday in fields.weekdays or (weekday, (day - 1) // 7 + 1) in fields.nth_weekdays
        )
        either = not fields.any_day and not fields.any_weekday
        if (by_day or by_weekday) if either else (by_day and by_weekday):
            chosen.append(day)
    return tuple(chosen)
