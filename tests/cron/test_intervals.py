"""Intervals, and numbers made from a name."""

import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from quarterjack import cron

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds", "words"),
    [
        ("every 90 seconds", 90, "Every 90 seconds"),
        ("every 15 minutes", 900, "Every 15 minutes"),
        ("@every 15m", 900, "Every 15 minutes"),
        ("@every 1h30m", 5_400, "Every 90 minutes"),
        ("Every 1 hour", 3_600, "Every hour"),
        ("every 36 hours", 129_600, "Every 36 hours, counted from 1 Jan 1970 UTC"),
        ("every 10 days", 864_000, "Every 10 days, counted from 1 Jan 1970 UTC"),
        ("every 2 weeks", 1_209_600, "Every 14 days, counted from 1 Jan 1970 UTC"),
        (" every  1 s ", 1, "Every second"),
    ],
)
def test_an_interval_counts_from_the_epoch(text: str, seconds: int, words: str) -> None:
    interval, step = cron.read(text), timedelta(seconds=seconds)
    dice = random.Random(text)

    assert interval.describe() == words
    for _ in range(200):
        instant = NOON + timedelta(microseconds=dice.choice((0, 1, dice.randrange(10**15))))
        before, after = interval.prev_before(instant, UTC), interval.next_after(instant, UTC)
        assert before is not None
        assert after is not None
        assert (before - EPOCH) % step == (after - EPOCH) % step == timedelta(0)
        assert instant - step <= before < instant < after <= instant + step


def test_an_interval_knows_no_zone_and_no_clock_change() -> None:
    start, end = datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)
    interval, zone = cron.read("every 40 minutes"), ZoneInfo("Europe/Prague")

    ticks = list(interval.ticks(start, end, zone, "skip"))

    assert ticks == [start + timedelta(minutes=40) * n for n in range(73)]
    assert interval.count(start, end, zone, "skip") == 72


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("every", "a number and"),
        ("every minute", "a number and"),
        ("every 5", "a number and"),
        ("every 1 month", "no unit"),
        ("every 5 fortnights", "no unit"),
        ("every 0 seconds", "from 1 second to 10 years"),
        ("every 3654 days", "from 1 second to 10 years"),
        ("every 1.5 hours", "every 90 minutes"),
        ("every -5 minutes", "a number and"),
        ("@every 15m * * *", "a number and"),
    ],
)
def test_what_is_no_interval_is_refused(text: str, advice: str) -> None:
    with pytest.raises(cron.CronError, match=advice):
        cron.read(text)


def test_the_calendar_ends_for_intervals_too() -> None:
    interval = cron.read("every 10 days")

    assert interval.next_after(datetime(9999, 12, 31, tzinfo=UTC), UTC) is None
    assert interval.prev_before(datetime(1, 1, 1, 1, tzinfo=UTC), UTC) is None


def test_parse_reads_crontab_expressions_only() -> None:
    with pytest.raises(cron.CronError):
        cron.parse("every 15 minutes")


def test_a_name_gives_the_same_numbers_in_every_process() -> None:
    program = (
        "from quarterjack import cron; print(cron.parse('H H H H H', 'nightly report').describe())"
    )
    said = {
        subprocess.check_output(
            [sys.executable, "-c", program], text=True, env={"PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    }

    assert said == {"At 14:49 on day 11 of the month or on Sunday in June\n"}


@pytest.mark.parametrize(
    ("text", "low", "high", "step"),
    [
        ("H * * * *", 0, 59, None),
        ("H/15 * * * *", 0, 59, 15),
        ("H(0-29) * * * *", 0, 29, None),
        ("h(10-40)/7 * * * *", 10, 40, 7),
    ],
)
def test_names_spread_over_the_range(text: str, low: int, high: int, step: int | None) -> None:
    firsts: Counter[int] = Counter()
    for number in range(3_000):
        minutes = cron.parse(text, f"schedule {number}").fields.minutes
        firsts[minutes[0]] += 1
        assert list(minutes) == list(range(minutes[0], high + 1, step or 60))

    choices = range(low, low + step) if step else range(low, high + 1)
    fair = 3_000 / len(choices)
    assert set(firsts) == set(choices)
    assert max(firsts.values()) < fair + 6 * fair**0.5


def test_every_month_has_the_day_of_a_name() -> None:
    days = {max(cron.parse("0 0 H * *", f"{number}").fields.days) for number in range(500)}

    assert days == set(range(1, 29))


def test_steps_from_a_name_follow_real_time_like_steps_from_a_star() -> None:
    fold = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 3, tzinfo=UTC)

    ticks = list(cron.parse("0 H/1 * * *", "name").ticks(*fold, ZoneInfo("Europe/Prague")))

    assert len(ticks) == 6


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("H(29-0) * * * *", "goes up"),
        ("H(0-60) * * * *", "0 to 59"),
        ("H/61 * * * *", "1 to 60"),
        ("H/0 * * * *", "1 to 60"),
        ("H-5 * * * *", "write H, H/15"),
        ("0 0 H/29 * *", "1 to 28"),
    ],
)
def test_a_wrong_number_from_a_name_is_refused(text: str, advice: str) -> None:
    with pytest.raises(cron.CronError, match=advice):
        cron.parse(text, "name")
