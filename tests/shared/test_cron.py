"""The evaluator against a brute force that knows only the definition, and against cronsim."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from quarterjack import cron

ZONES = {
    "Europe/Prague": [(2026, 3, 29), (2026, 10, 25)],
    "America/New_York": [(2026, 3, 8), (2026, 11, 1)],
    "Australia/Lord_Howe": [(2026, 4, 5), (2026, 10, 4)],
    "Africa/Casablanca": [(2026, 2, 15), (2026, 3, 22)],
    "Asia/Kathmandu": [(2026, 6, 1)],
    "Antarctica/Troll": [(2026, 3, 29), (2026, 10, 25)],
    "Pacific/Apia": [(2011, 12, 30), (2011, 4, 2)],
    "America/Santiago": [(2026, 4, 5), (2026, 9, 6)],
    "Etc/UTC": [(2026, 12, 31)],
}
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Wanted:
    """A random expression, with the numbers it was made from."""

    text: str
    minutes: set[int]
    hours: set[int]
    days: set[int]
    months: set[int]
    weekdays: set[int]

    def names(self, wall: datetime) -> bool:
        _, _, day, _, weekday = self.text.split()
        by_day, by_weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        either = not day.startswith("*") and not weekday.startswith("*")
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.month in self.months
            and ((by_day or by_weekday) if either else (by_day and by_weekday))
        )


def wanted(seed: int) -> Wanted:
    dice = random.Random(seed)
    fields = [_field(dice, low, high) for low, high in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))]
    return Wanted(" ".join(text for text, _ in fields), *(numbers for _, numbers in fields))


def _field(dice: random.Random, low: int, high: int) -> tuple[str, set[int]]:
    kind = dice.choice(["star", "star", "step", "number", "range", "list"])
    everything = set(range(low, high + 1))
    if kind == "star":
        return "*", everything
    if kind == "step":
        step = dice.randint(2, max(2, (high - low) // 2))
        return f"*/{step}", set(range(low, high + 1, step))
    if kind == "number":
        number = dice.randint(low, high)
        return str(number), {number}
    if kind == "range":
        first, last = sorted(dice.sample(sorted(everything), 2))
        return f"{first}-{last}", set(range(first, last + 1))
    numbers = set(dice.sample(sorted(everything), min(3, len(everything))))
    return ",".join(map(str, sorted(numbers))), numbers


def brute_force(
    it: Wanted, start: datetime, end: datetime, zone: ZoneInfo, dst: str
) -> list[datetime]:
    """Look at every wall minute near the window and at every instant it stands for."""
    any_hour = it.text.split()[1].startswith("*")
    found: set[datetime] = set()
    wall = start.replace(tzinfo=None) - timedelta(hours=40)
    while wall < end.replace(tzinfo=None) + timedelta(hours=40):
        if it.names(wall):
            both = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
            real = sorted({i for i in both if i.astimezone(zone).replace(tzinfo=None) == wall})
            if len(real) == 2 and not any_hour and dst != "both":
                real = real[:1]
            if not real and not any_hour and dst != "skip":
                real = [_gap_end(wall, min(both), zone)]
            found.update(real)
        wall += MINUTE
    return sorted(i for i in found if start <= i <= end)


def _gap_end(wall: datetime, low: datetime, zone: ZoneInfo) -> datetime:
    instant = low - timedelta(hours=25)
    while instant.astimezone(zone).replace(tzinfo=None) < wall:
        instant += MINUTE
    return instant


def windows(name: str) -> Iterator[tuple[datetime, datetime]]:
    for day in ZONES[name]:
        middle = datetime(*day, 12, tzinfo=UTC)
        yield middle - timedelta(days=2), middle + timedelta(days=2)


@pytest.mark.parametrize("name", ZONES)
def test_it_equals_the_brute_force_around_every_change(name: str) -> None:
    zone = ZoneInfo(name)
    for seed in range(24):
        it = wanted(seed * 31 + len(name))
        dst = cron.DST_POLICIES[seed % 3]
        parsed = _parsed(it.text)
        if parsed is None:
            continue
        for start, end in windows(name):
            ticks = list(parsed.ticks(start, end, zone, dst))

            assert ticks == brute_force(it, start, end, zone, dst), (it.text, name, dst)


@pytest.mark.parametrize("name", ZONES)
def test_the_tick_before_the_tick_after_is_the_tick(name: str) -> None:
    zone = ZoneInfo(name)
    for seed in range(40):
        parsed = _parsed(wanted(seed).text)
        if parsed is None:
            continue
        tick = parsed.next_after(next(windows(name))[0], zone)
        for _ in range(3):
            assert tick is not None
            later = parsed.next_after(tick, zone)
            assert later is not None
            assert later > tick
            assert parsed.prev_before(later, zone) == tick
            tick = later


def test_it_equals_cronsim_in_utc() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    compared = 0
    for seed in range(400):
        it = wanted(seed)
        parsed = _parsed(it.text)
        if parsed is None:
            continue
        other = CronSim(it.text, start)
        tick: datetime | None = start
        for _ in range(5):
            assert tick is not None
            tick = parsed.next_after(tick, UTC)
            assert tick == next(other), it.text
        compared += 1
    assert compared > 350


def _parsed(text: str) -> cron.Cron | None:
    try:
        return cron.parse(text)
    except cron.CronError as error:
        if error.field != "day":
            raise
        return None


@pytest.mark.parametrize(
    ("text", "field", "advice"),
    [
        ("", "cron", "five fields"),
        ("* * * *", "cron", "4 fields"),
        ("@reboot", "cron", "@hourly"),
        ("@every 5m", "cron", "nickname"),
        ("5-5 * * * *", "minute", "write 5"),
        ("* 22-3 * * *", "hour", "write 22-23,0-3"),
        ("* * * * fri-sun", "weekday", "write fri-7"),
        ("3/5 * * * *", "minute", "3-59/5"),
        ("*/61 * * * *", "minute", "1 to 60"),
        ("60 * * * *", "minute", "0 to 59"),
        ("R * * * *", "minute", "0 to 59"),
        ("* * 15W * *", "day", "1 to 31"),
        ("* * ? * *", "day", "1 to 31"),
        ("0 0 31 2 *", "day", "does not exist"),
        ("0 0 30 feb *", "day", "does not exist"),
        ("* * * * mon#6", "weekday", "1 to 5"),
        ("1,,2 * * * *", "minute", "0 to 59"),
        ("9" * 200 + " * * * *", "minute", "0 to 59"),
        ("1," * 10_000, "cron", "at most 255"),
        ("５ * * * *", "cron", "ASCII"),
    ],
)
def test_what_others_would_guess_at_is_refused(text: str, field: str, advice: str) -> None:
    with pytest.raises(cron.CronError) as refused:
        cron.parse(text)

    assert refused.value.field == field
    assert advice in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*/2 * * * *", "Every 2 minutes"),
        ("* * * * *", "Every minute"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("30 2 * * *", "At 02:30 every day"),
        ("0 9 * * mon-fri", "At 09:00 on Monday to Friday"),
        ("*/15 9-17 * * *", "Every 15 minutes from 09:00 to 17:59"),
        ("0 0 L * *", "At 00:00 on the last day of the month"),
        ("0 9 * * mon#1", "At 09:00 on the first Monday of the month"),
        ("0 0 13 * 5", "At 00:00 on day 13 of the month or on Friday"),
        ("5,35 * * * *", "At :05 and :35 of every hour"),
        ("0 0 1 jan *", "At 00:00 on day 1 of the month in January"),
        ("@hourly", "Every hour"),
        ("*/7 * * * *", "Every 7 minutes from :00 to :56 of every hour"),
    ],
)
def test_an_expression_is_said_in_words(text: str, words: str) -> None:
    assert cron.parse(text).describe() == words


def test_the_last_day_and_nth_weekdays_follow_the_month() -> None:
    start = datetime(2028, 1, 31, 12, tzinfo=UTC)

    assert cron.parse("0 0 L * *").next_after(start, UTC) == datetime(2028, 2, 29, tzinfo=UTC)
    assert cron.parse("0 0 * * 2#5").next_after(start, UTC) == datetime(2028, 2, 29, tzinfo=UTC)
    assert cron.parse("0 0 29 2 *").next_after(datetime(2096, 3, 1, tzinfo=UTC), UTC) == datetime(
        2104, 2, 29, tzinfo=UTC
    )


def test_a_friday_the_thirteenth_needs_a_star_in_one_field() -> None:
    year = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC)

    assert len(list(cron.parse("0 0 13 * fri").ticks(*year, UTC))) == 61


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(cron.CronError, match="IANA name") as refused:
        cron.zone("Mars/Olympus")

    assert refused.value.field == "timezone"
    assert cron.zone("Europe/Berlin").key == "Europe/Berlin"


def test_the_calendar_ends() -> None:
    assert cron.parse("0 0 * * *").next_after(datetime(9999, 12, 31, 12, tzinfo=UTC), UTC) is None
