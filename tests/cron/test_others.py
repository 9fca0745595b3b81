"""Beside cronsim, which agrees, and croniter, which design names and which alone would break the rules."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim

from quarterjack import cron
from tests.cron.oracle import Wanted, changes_of, wanted

MOMENT = timedelta(microseconds=1)


def test_it_equals_cronsim_in_utc() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for it in _both_read(range(1_000)):
        other, tick = CronSim(it.text.upper(), start), start
        for _ in range(5):
            following = cron.parse(it.text).next_after(tick, UTC)
            assert following is not None
            assert following == next(other), it.text
            tick = following


@pytest.mark.parametrize("name", ["Europe/Prague", "America/New_York", "America/Santiago"])
def test_it_equals_cronsim_across_clock_changes(name: str) -> None:
    zone = ZoneInfo(name)
    changes = changes_of(name)[-60:]
    for number, it in enumerate(_both_read(range(600))):
        minute, hour = it.text.split()[:2]
        if minute.startswith("*") and not hour.startswith("*"):
            continue  # Debian's cron lets these follow real time
        start = changes[number % len(changes)] - timedelta(hours=5)
        end = start + timedelta(hours=10)
        other = CronSim(it.text.upper(), (start - timedelta(minutes=1)).astimezone(zone))

        expected = takewhile(lambda tick: tick <= end, (tick.astimezone(UTC) for tick in other))  # noqa: B023
        ours = list(cron.parse(it.text).ticks(start, end, zone))

        assert ours == sorted({tick for tick in expected if tick >= start}), (it.text, start)


def _both_read(seeds: range) -> list[Wanted]:
    """Make expressions that can run, without the `n,L` that cronsim refuses."""
    made = [wanted(seed) for seed in seeds]
    return [it for it in made if ",L" not in it.text and _runs(it.text)]


def _runs(text: str) -> bool:
    try:
        cron.parse(text)
    except cron.CronError:
        return False
    return True


@pytest.mark.parametrize(
    ("what", "text", "zone", "day", "ours", "croniters"),
    [
        (
            "a fixed time in a fold runs once",
            "30 1 * * *",
            "America/New_York",
            (2026, 11, 1),
            ["01:30-0400"],
            ["01:30-0400", "01:30-0500"],
        ),
        (
            "midnight in a fold comes once",
            "0 0 * * *",
            "America/Havana",
            (2026, 11, 1),
            ["00:00-0400"],
            ["00:00-0400", "00:00-0500"],
        ),
        (
            "wildcard hours follow real time: a gap makes no run of its own",
            "0 */2 * * *",
            "Europe/Prague",
            (2026, 3, 29),
            ["00:00+0100", "04:00+0200"],
            ["00:00+0100", "03:00+0200", "04:00+0200"],
        ),
        (
            "wildcard hours follow real time: a fold loses no run",
            "*/20 * * * *",
            "Australia/Lord_Howe",
            (2026, 4, 5),
            ["01:00+1100", "01:20+1100", "01:40+1100", "01:40+1030", "02:00+1030"],
            ["01:00+1100", "01:20+1100", "01:40+1100", "02:00+1030"],
        ),
    ],
)
def test_croniter_alone_would_break_the_rule(
    what: str,
    text: str,
    zone: str,
    day: tuple[int, int, int],
    ours: list[str],
    croniters: list[str],
) -> None:
    tz = ZoneInfo(zone)
    first, last = (
        datetime.strptime(f"{day[0]}-{day[1]}-{day[2]} {at}", "%Y-%m-%d %H:%M%z")
        for at in (croniters[0], croniters[-1])
    )
    other = croniter(text, (first - timedelta(seconds=1)).astimezone(tz), ret_type=datetime)

    theirs = [other.get_next() for _ in croniters]

    assert [f"{tick:%H:%M%z}" for tick in theirs] == croniters
    found = cron.parse(text).ticks(first, last, tz)
    assert [f"{tick.astimezone(tz):%H:%M%z}" for tick in found] == ours, what


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("5-5 * * * *", "every minute"),
        ("R * * * *", "another minute at each reading"),
        ("*/61 * * * *", "once an hour"),
        ("3/5 * * * *", "one value"),
        ("0 0 31 2 *", "never"),
        ("0 0 15W * 1", "the second restriction is dropped"),
    ],
)
def test_what_croniter_takes_for_something_else_is_refused(text: str, meaning: str) -> None:
    assert croniter.is_valid(text), meaning

    with pytest.raises(cron.CronError):
        cron.parse(text)
