"""The evaluator against the brute force, and against itself."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from quarterjack import cron
from quarterjack.cron.walls import Walls
from tests.cron.oracle import (
    DAY,
    ZONES,
    Stretch,
    Wanted,
    changes_of,
    stretch,
    stretch_around_change,
    wanted,
)

EXPRESSIONS = 2_000
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize("name", ZONES)
def test_it_equals_the_brute_force_around_clock_changes(name: str) -> None:
    zone = ZoneInfo(name)
    for seed in range(EXPRESSIONS):
        it = wanted(seed)
        parsed = _parsed(it.text)
        if parsed is not None:
            _compare(parsed, it, stretch_around_change(name, seed), zone, seed)


@pytest.mark.parametrize("name", ["Australia/Lord_Howe", "Europe/Prague", "Antarctica/Troll"])
def test_seconds_equal_the_brute_force_around_clock_changes(name: str) -> None:
    zone = ZoneInfo(name)
    for change in changes_of(name)[-2:]:
        around = stretch(zone, change, 3, timedelta(seconds=1))
        for seed in range(25):
            it = wanted(seed, with_seconds=True)
            parsed = _parsed(it.text)
            if parsed is not None:
                _compare(parsed, it, around, zone, seed)


def _compare(parsed: cron.Cron, it: Wanted, around: Stretch, zone: ZoneInfo, seed: int) -> None:
    expected = around.ticks(it)
    for dst in cron.DST_POLICIES:
        ticks = list(parsed.ticks(around.start, around.end, zone, dst))

        assert ticks == expected[dst], (it.text, zone, dst, around.start)
        if len(ticks) > 1:
            place = seed % (len(ticks) - 1)
            before, after = ticks[place : place + 2]
            assert parsed.prev_before(after, zone, dst) == before, (it.text, zone, dst)
            assert parsed.next_after(before + MOMENT, zone, dst) == after, (it.text, zone, dst)


def test_nearly_all_random_expressions_can_run() -> None:
    assert sum(_parsed(wanted(seed).text) is None for seed in range(EXPRESSIONS)) < EXPRESSIONS / 50


@pytest.mark.parametrize("name", ZONES)
def test_the_tick_after_the_tick_before_an_instant_is_not_before_it(name: str) -> None:
    zone, dice = ZoneInfo(name), random.Random(name)
    for seed in range(100):
        parsed = _parsed(wanted(seed).text)
        if parsed is None:
            continue
        instant = dice.choice(changes_of(name)) + timedelta(seconds=dice.randint(-20_000, 20_000))
        for dst in cron.DST_POLICIES:
            before, after = (
                parsed.prev_before(instant, zone, dst),
                parsed.next_after(instant - MOMENT, zone, dst),
            )
            assert before is not None
            assert after is not None

            assert before < instant <= after
            assert parsed.next_after(before, zone, dst) == after, (parsed, zone, dst, instant)
            assert parsed.prev_before(after, zone, dst) == before, (parsed, zone, dst, instant)


@pytest.mark.parametrize("name", ZONES)
def test_ticks_are_counted_as_they_would_be_visited(name: str) -> None:
    zone, dice, unknown = ZoneInfo(name), random.Random(name), 0
    for seed in range(200):
        parsed = _parsed(wanted(seed, with_seconds=seed % 4 == 0).text)
        if parsed is None:
            continue
        change, dst = dice.choice(changes_of(name)), dice.choice(cron.DST_POLICIES)
        until = change + dice.uniform(-2, 2) * DAY
        after = until - abs(dice.gauss(0, 1)) * DAY
        counted = parsed.count(after, until, zone, dst)
        if counted is None:
            unknown += 1
        else:
            visited = list(parsed.ticks(after + MOMENT, until, zone, dst))
            assert counted == len(visited), (parsed, zone, dst, after, until)
    assert unknown < 20


def test_wall_times_are_the_same_backwards() -> None:
    for seed in range(EXPRESSIONS):
        parsed = _parsed(wanted(seed, with_seconds=True).text)
        if parsed is None:
            continue
        walls, dice = Walls(parsed.fields), random.Random(seed)
        wall = walls.next_after(datetime(2024, 1, 1) + dice.random() * 1_000 * DAY)  # noqa: DTZ001 - a wall time
        for _ in range(4):
            assert wall is not None
            assert walls.matches(wall)
            later = walls.next_after(wall)
            assert later is not None
            assert walls.prev_before(later) == wall, (parsed, later)
            assert walls.prev_before(wall + MOMENT) == wall, (parsed, wall)
            wall = later


@pytest.mark.parametrize(
    "text",
    [
        "0 0 29 2 *",
        "30 12 29 feb */7",
        "0 0 L 2 *",
        "0 0 31 * *",
        "15 6 * * mon#5",
        "0 0 29 2 mon#1",
        "59 23 31 12 *",
        "0 0 */9 */5 */3",
    ],
)
def test_the_days_of_four_hundred_years_are_right(text: str) -> None:
    parsed = cron.parse(text)
    start, end = date(2080, 1, 1), date(2480, 1, 1)
    days = [start + DAY * n for n in range((end - start).days)]

    ticks = parsed.ticks(_midnight(start), _midnight(end) - MOMENT, UTC)

    assert [tick.date() for tick in ticks] == [day for day in days if _is_named(text, day)]


@pytest.mark.parametrize("name", ZONES)
def test_a_daily_schedule_runs_on_each_day_of_fifty_years(name: str) -> None:
    zone, noon = ZoneInfo(name), cron.parse("30 12 * * *")
    start, end = _midnight(date(1990, 1, 2)), _midnight(date(2040, 1, 1))

    days = [tick.astimezone(zone).date() for tick in noon.ticks(start, end, zone, "skip")]

    every = [days[0] + DAY * n for n in range((days[-1] - days[0]).days + 1)]
    absent = [date(2011, 12, 30)] if name == "Pacific/Apia" else []
    assert days == [day for day in every if day not in absent]


def test_the_calendar_has_ends() -> None:
    parsed, zone = cron.parse("0 0 * * *"), ZoneInfo("Europe/Prague")
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)

    assert parsed.next_after(last, zone) is None
    assert parsed.prev_before(first, zone) is None
    assert parsed.prev_before(first + 3 * DAY, UTC) == first + 2 * DAY
    assert parsed.next_after(last - 2 * DAY, UTC) == datetime(9999, 12, 30, tzinfo=UTC)


def _is_named(text: str, day: date) -> bool:
    """Read the fields that this test uses, on its own."""
    leap, last = day.month == 2 and day.day == 29, (day + DAY).day == 1
    first_monday = day.isoweekday() == 1 and day.day <= 7
    rules = {
        "0 0 29 2 *": leap,
        "30 12 29 feb */7": leap and day.isoweekday() == 7,
        "0 0 L 2 *": last and day.month == 2,
        "0 0 31 * *": day.day == 31,
        "15 6 * * mon#5": day.isoweekday() == 1 and day.day >= 29,
        "0 0 29 2 mon#1": day.month == 2 and (leap or first_monday),
        "59 23 31 12 *": (day.month, day.day) == (12, 31),
        "0 0 */9 */5 */3": day.day in (1, 10, 19, 28)
        and day.month in (1, 6, 11)
        and day.isoweekday() % 7 in (0, 3, 6),
    }
    return rules[text]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _parsed(text: str) -> cron.Cron | None:
    try:
        return cron.parse(text)
    except cron.CronError as error:
        if error.field != "day":
            raise
        return None
