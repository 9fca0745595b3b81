"""Windows and calendars in which ticks make no job, against a walk through the week."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterjack.cron import CronError, Holidays
from quarterjack.cron.blackouts import parse_window

MOMENT = timedelta(microseconds=1)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("sat,sun", ["sat 00:00", "sun 23:59"], ["fri 23:59", "mon 00:00"]),
        (
            "mon-fri 08:00-18:00",
            ["mon 08:00", "fri 17:59"],
            ["mon 07:59", "fri 18:00", "sat 12:00"],
        ),
        ("22:00-06:00", ["tue 22:00", "wed 05:59", "mon 03:00"], ["tue 21:59", "wed 06:00"]),
        ("sun 22:00-06:00", ["sun 22:00", "mon 05:59"], ["sun 03:00", "mon 06:00", "mon 22:00"]),
        (
            "fri 22:00-mon 06:00",
            ["fri 22:00", "sun 12:00", "mon 05:59"],
            ["fri 21:59", "mon 06:00"],
        ),
        (
            "mon 06:00-fri 22:00",
            ["mon 06:00", "fri 21:59"],
            ["fri 22:00", "sun 00:00", "mon 05:59"],
        ),
        ("fri-mon", ["fri 00:00", "mon 23:59"], ["tue 00:00", "thu 23:59"]),
        ("00:00-24:00", ["mon 00:00", "sun 23:59"], []),
        ("SUN  20:00-24:00", ["sun 20:00", "sun 23:59"], ["mon 00:00", "sun 19:59"]),
        (
            "mon 08:00-mon 07:00",
            ["mon 08:00", "sun 12:00", "mon 06:59"],
            ["mon 07:00", "mon 07:59"],
        ),
    ],
)
def test_a_weekly_window_covers(window: str, inside: list[str], outside: list[str]) -> None:
    covered = parse_window(window).covers

    assert [at for at in inside + outside if covered(_wall(at))] == inside


def _wall(text: str) -> datetime:
    day, clock = text.split()
    return datetime(2026, 11, 23 + DAYS.index(day), int(clock[:2]), int(clock[3:]), 30)  # noqa: DTZ001 - a wall time


@given(
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=4),
    st.integers(0, 1_439),
    st.integers(0, 1_440),
)
def test_daily_windows_equal_a_walk_through_the_week(days: list[str], start: int, end: int) -> None:
    text = f"{','.join(days)} {_clock(start)}-{_clock(end)}"
    if start == end:
        with pytest.raises(CronError):
            parse_window(text)
        return

    walked = set()
    for day in days:
        minute = DAYS.index(day) * 1_440 + start
        while minute % 1_440 != end % 1_440 or minute == DAYS.index(day) * 1_440 + start:
            walked.add(minute % 10_080)
            minute += 1

    assert walked == _covered(text)


@given(st.sampled_from(DAYS), st.integers(0, 1_439), st.sampled_from(DAYS), st.integers(0, 1_439))
def test_long_windows_equal_a_walk_through_the_week(
    day: str, start: int, last: str, end: int
) -> None:
    minute, stop = DAYS.index(day) * 1_440 + start, DAYS.index(last) * 1_440 + end
    walked = set()
    while minute != stop:
        walked.add(minute)
        minute = (minute + 1) % 10_080

    if walked:
        assert walked == _covered(f"{day} {_clock(start)}-{last} {_clock(end)}")


def _covered(text: str) -> set[int]:
    covers, monday = parse_window(text).covers, datetime(2026, 11, 23)  # noqa: DTZ001 - a wall time
    return {n for n in range(10_080) if covers(monday + timedelta(minutes=n))}


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


@pytest.mark.parametrize(
    ("window", "first", "end"),
    [
        ("2026-12-24", "2026-12-24 00:00", "2026-12-25 00:00"),
        ("2026-12-24..2026-12-26", "2026-12-24 00:00", "2026-12-27 00:00"),
        ("2026-12-24 18:00..2026-12-27 06:00", "2026-12-24 18:00", "2026-12-27 06:00"),
        ("2026-12-24 18:00..2026-12-24", "2026-12-24 18:00", "2026-12-25 00:00"),
        ("2026-12-31..2027-01-01 24:00", "2026-12-31 00:00", "2027-01-02 00:00"),
    ],
)
def test_a_window_of_dates_ends_before_its_end(window: str, first: str, end: str) -> None:
    covers = parse_window(window).covers
    start, stop = datetime.fromisoformat(first), datetime.fromisoformat(end)

    assert [covers(at) for at in (start - MOMENT, start, stop - MOMENT, stop)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("", {}),
        ("x\n", {}),
        ("x", {date(1800, 1, 1): ""}),
        ("x", {datetime(2026, 1, 1, tzinfo=UTC): ""}),
        ("x", {date(2026, 1, 1): "x" * 101}),
        ("x", {date(2000, 1, 1) + timedelta(days=n): "" for n in range(5_001)}),
    ],
)
def test_a_wrong_calendar_is_refused(name: str, days: dict[date, str]) -> None:
    with pytest.raises(CronError):
        Holidays(name=name, days=days)


@given(st.text(max_size=120))
def test_any_window_is_read_or_refused(text: str) -> None:
    try:
        window = parse_window(text)
    except CronError:
        return
    assert window.covers(datetime(2026, 1, 1)) in (True, False)  # noqa: DTZ001 - a wall time
