"""Intervals: `every 90 seconds`, `@every 1h30m`.

They are counted in real time from the Unix epoch, so their ticks depend on nothing else: not on the zone,
not on when the schedule was made. What crontab(5) cannot say, such as every 36 hours, is said like this.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from quarterjack.cron.grammar import CronError, shown
from quarterjack.cron.walls import MOMENT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
LONGEST_STEP = 3_653 * DAY
UNITS = {"day": DAY, "hour": 3_600, "minute": 60, "second": 1}
SPELLINGS = {
    spelling: UNITS[unit]
    for unit, more in (("day", "d"), ("hour", "h hr hrs"), ("minute", "m min"), ("second", "s sec"))
    for spelling in (unit, f"{unit}s", *more.split())
} | {"week": 7 * DAY, "weeks": 7 * DAY, "w": 7 * DAY}
PART = re.compile(r"([0-9]{1,9})[ \t]*([a-z]+)[ \t]*")
PARTS = re.compile(rf"(?:{PART.pattern})+")
ADVICE = "write a number and seconds, minutes, hours, days or weeks, such as every 90 minutes"


class Interval:
    """A length of time that can be asked for its ticks, with the interface of `Cron`."""

    __slots__ = ("step", "text")

    def __init__(self, text: str, step: timedelta) -> None:
        self.text = text
        self.step = step

    def __repr__(self) -> str:
        return f"Interval({self.text!r})"

    def describe(self) -> str:
        """Say it in English words."""
        seconds = int(self.step.total_seconds())
        unit = next(unit for unit, size in UNITS.items() if seconds % size == 0)
        number = seconds // UNITS[unit]
        said = f"Every {unit}" if number == 1 else f"Every {number} {unit}s"
        return said if DAY % seconds == 0 else f"{said}, counted from 1 Jan 1970 UTC"

    def next_after(self, instant: datetime, tz: tzinfo = UTC, dst: str = "once") -> datetime | None:
        """Give the first tick strictly after an aware instant, in UTC; zone and policy change nothing."""
        return self._tick((instant - EPOCH) // self.step + 1)

    def prev_before(
        self, instant: datetime, tz: tzinfo = UTC, dst: str = "once"
    ) -> datetime | None:
        """Give the last tick strictly before an aware instant, in UTC."""
        return self._tick((instant - EPOCH - MOMENT) // self.step)

    def ticks(
        self, start: datetime, end: datetime, tz: tzinfo = UTC, dst: str = "once"
    ) -> Iterator[datetime]:
        """Give every tick of [start, end] in order, lazily."""
        tick = self.next_after(start - MOMENT)
        while tick is not None and tick <= end:
            yield tick
            tick = self.next_after(tick)

    def count(
        self, after: datetime, until: datetime, tz: tzinfo = UTC, dst: str = "once"
    ) -> int | None:
        """Count the ticks in (after, until]."""
        return (until - EPOCH) // self.step - (after - EPOCH) // self.step

    def _tick(self, number: int) -> datetime | None:
        try:
            return EPOCH + number * self.step
        except OverflowError:
            return None


def is_interval(text: str) -> bool:
    """Say whether a text without surrounding blanks is meant as an interval, right or wrong."""
    return text.lower().startswith(("every", "@every"))


def parse_interval(text: str) -> Interval:
    """Read `every N unit`, also with several parts and with `@`; CronError says what to write."""
    text = " ".join(text.split())
    length = text.lower().removeprefix("@").removeprefix("every").lstrip()
    if PARTS.fullmatch(length) is None:
        raise CronError(f"{shown(text)} is no interval: {ADVICE}", "cron")
    seconds = 0
    for number, unit in PART.findall(length):
        if unit not in SPELLINGS:
            raise CronError(f"{shown(unit)} in {shown(text)} is no unit: {ADVICE}", "cron")
        seconds += int(number) * SPELLINGS[unit]
    if not 1 <= seconds <= LONGEST_STEP:
        raise CronError(f"{shown(text)}: an interval is from 1 second to 10 years", "cron")
    return Interval(text, timedelta(seconds=seconds))
