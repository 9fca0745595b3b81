"""When an expression runs, as instants.

The expression matches local wall-clock times; a wall time W becomes instants so:

    W exists once               that instant
    W exists twice (fold)       fixed hours: the first of both; with dst="both", and for `*` hours, both
    W does not exist (gap)      fixed hours: the gap's end; with dst="skip", and for `*` hours, none

An hour field that begins with `*`, and `H/n`, which is `*/n` moved, follow real time under every policy.
With fixed hours and minutes this is the rule of Vixie's cron, which lets a `*` in the minutes follow real
time as well; here the hours decide, so that `*/15 2 * * *` runs in every night.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice

from quarterjack.cron.grammar import Fields
from quarterjack.cron.walls import DAY, MOMENT, SECOND, Walls
from quarterjack.cron.words import describe

DST_POLICIES = ("once", "skip", "both")
FIRST = datetime.min.replace(tzinfo=UTC)
PROBED_FROM = datetime(2096, 1, 1)  # noqa: DTZ001 - a wall time
HORIZON_YEARS = 41  # 29 February on a given weekday comes back after at most 40 years, around 2100


class Cron:
    """An expression that can be asked for its ticks."""

    __slots__ = ("_walls", "fields")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self._walls = Walls(fields)

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
            repeated = self._repeated(local, tz, dst)
        except (OverflowError, ValueError):
            return None
        if repeated is not None and (found is None or repeated < found):
            return repeated
        return found

    def prev_before(self, instant: datetime, tz: tzinfo, dst: str = "once") -> datetime | None:
        """Give the last tick strictly before an aware instant, in UTC; None before the calendar."""
        end = instant.astimezone(UTC)
        guess = self._guess_before(end, tz)
        found = guess and self.next_after(guess - MOMENT, tz, dst)
        if found is None or found >= end:
            found = self._any_before(end, tz, dst)
            if found is None:
                return None
        following = self.next_after(found, tz, dst)
        if following is None or following >= end:
            return found
        return self._last_between(following, end, tz, dst)

    def ticks(
        self, start: datetime, end: datetime, tz: tzinfo, dst: str = "once"
    ) -> Iterator[datetime]:
        """Give every tick of [start, end] in order, lazily."""
        tick = self.next_after(start - MOMENT, tz, dst)
        while tick is not None and tick <= end:
            yield tick
            tick = self.next_after(tick, tz, dst)

    def count(
        self, after: datetime, until: datetime, tz: tzinfo, dst: str = "once", visits: int = 1_000
    ) -> int | None:
        """Count the ticks in (after, until], a day at a time; near a change of clocks they are visited.

        None if more than `visits` would have to be.
        """
        total = 0
        while after < until:
            end = min(until, after + DAY)
            offsets = [at.astimezone(tz).utcoffset() for at in (after - DAY, after, end)]
            if offsets == offsets[:1] * 3:
                total += self._walls.count(_wall_at(after, tz), _wall_at(end, tz))
            else:
                found = sum(1 for _ in islice(self.ticks(after + MOMENT, end, tz, dst), visits + 1))
                if (visits := visits - found) < 0:
                    return None
                total += found
            after = end
        return total

    def matches(self, wall: datetime) -> bool:
        """Say whether a wall-clock time is one that the expression names."""
        return self._walls.matches(wall)

    def never_runs(self) -> bool:
        """Say whether no date of the next 41 years is named, which is more than any cycle of dates."""
        return self._walls.next_after(PROBED_FROM, limit=2096 + HORIZON_YEARS) is None

    def _first_pass(self, now: datetime, local: datetime, tz: tzinfo, dst: str) -> datetime | None:
        """Take the wall times after now's, in their order, until one of them is an instant after now."""
        wall = self._walls.next_after(local.replace(tzinfo=None, fold=0))
        while wall is not None:
            aware = wall.replace(tzinfo=tz)
            before, after = aware.utcoffset(), aware.replace(fold=1).utcoffset()
            assert before is not None
            assert after is not None
            if before == after:
                return aware.astimezone(UTC)
            change = _change(wall, before, after, tz)
            if before > after:  # W exists twice
                instants = (_instant(wall, before), _instant(wall, after))
                for found in instants if self._repeats(dst) else instants[:1]:
                    if found > now:
                        return found
                if not self._repeats(dst):
                    wall = _wall(change, before) - MOMENT
            else:  # W does not exist
                if not self.fields.any_hour and dst != "skip" and change > now:
                    return change
                wall = _wall(change, after) - MOMENT
            wall = self._walls.next_after(wall)
        return None

    def _repeated(self, local: datetime, tz: tzinfo, dst: str) -> datetime | None:
        """During the first pass of repeated wall times: the first tick of the second pass up to W(now)."""
        if not self._repeats(dst):
            return None
        before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
        assert before is not None
        assert after is not None
        if before <= after:
            return None
        wall = local.replace(tzinfo=None)
        change = _change(wall.replace(microsecond=0), before, after, tz)
        found = self._walls.next_after(_wall(change, after) - MOMENT)
        return None if found is None or found > wall else _instant(found, after)

    def _repeats(self, dst: str) -> bool:
        return self.fields.any_hour or dst == "both"

    def _guess_before(self, end: datetime, tz: tzinfo) -> datetime | None:
        """Give what is the last tick before `end` wherever the offset does not change in between."""
        try:
            wall = self._walls.prev_before(end.astimezone(tz).replace(tzinfo=None, fold=0))
            return wall and wall.replace(tzinfo=tz, fold=1).astimezone(UTC)
        except (OverflowError, ValueError):
            return None

    def _any_before(self, end: datetime, tz: tzinfo, dst: str) -> datetime | None:
        """Give some tick before `end`, looking back ever further."""
        span = timedelta(seconds=2)
        while span < timedelta(days=366 * 4 * HORIZON_YEARS):
            found = self.next_after(end - min(span, end - FIRST), tz, dst)
            if found is not None and found < end:
                return found
            span *= 4
        return None

    def _last_between(self, low: datetime, end: datetime, tz: tzinfo, dst: str) -> datetime:
        """Bisect from a tick to the last one before `end`; a tick is at a whole second."""
        high = end
        while high - low > SECOND:
            middle = low + (high - low) / 2
            later = self.next_after(middle - MOMENT, tz, dst)
            if later is not None and later < end:
                low = later
            else:
                high = middle
        return low


def _instant(wall: datetime, offset: timedelta) -> datetime:
    return (wall - offset).replace(tzinfo=UTC)


def _wall_at(instant: datetime, tz: tzinfo) -> datetime:
    return instant.astimezone(tz).replace(tzinfo=None, fold=0)


def _wall(instant: datetime, offset: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + offset


def _change(wall: datetime, before: timedelta, after: timedelta, tz: tzinfo) -> datetime:
    """Find the instant at which the offset changes, near a wall time that is missing or repeated."""
    low = _instant(wall, max(before, after)) - SECOND
    high = low + abs(before - after) + SECOND
    while high - low > SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(tz).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
