"""A schedule's time as a whole, against the parts that it is made of."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterjack.cron import CronError, Holidays, Timing, read
from quarterjack.cron.blackouts import parse_window

START = datetime(2026, 10, 20, 7, 30, tzinfo=UTC)
END = datetime(2026, 11, 3, 18, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXPRESSIONS = (
    "30 2 * * *",
    "*/20 * * * *",
    "H H * * 1-5",
    "every 7 hours",
    "0 0 1 * *",
    "every 90 s",
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("jitter", [timedelta(0), timedelta(minutes=10), timedelta(days=1)])
def test_it_is_its_expression_moved_and_cut(expression: str, jitter: timedelta) -> None:
    timing = Timing(
        name="report",
        expression=expression,
        zone="Europe/Prague",
        jitter=jitter,
        start_at=START,
        end_at=END,
    )
    zone, before, after = (
        ZoneInfo("Europe/Prague"),
        START - timedelta(days=9),
        END + timedelta(days=9),
    )
    moved = [
        tick + timing.offset
        for tick in read(expression, "report").ticks(before, after, zone, "once")
    ]

    expected = [tick for tick in moved if START <= tick <= END]

    assert list(timing.ticks(before, after)) == expected
    dice = random.Random(expression)
    for _ in range(30):
        instant = before + dice.random() * (after - before)
        later, earlier = (
            [tick for tick in expected if tick > instant],
            [tick for tick in expected if tick < instant],
        )
        assert timing.next_after(instant) == (later[0] if later else None)
        assert timing.prev_before(instant) == (earlier[-1] if earlier else None)


def test_bounds_belong_to_it() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    timing = Timing(
        name="n", expression="0 12 * * *", start_at=noon, end_at=noon + timedelta(days=1)
    )

    assert list(timing.ticks(noon - timedelta(days=5), noon + timedelta(days=5))) == [
        noon,
        noon + timedelta(days=1),
    ]


def test_jitter_is_a_fixed_part_for_each_name() -> None:
    minute = timedelta(minutes=1)
    offsets = [
        Timing(name=f"schedule {n}", expression="0 0 * * *", jitter=minute).offset
        for n in range(2_000)
    ]

    assert all(timedelta(0) <= offset < minute for offset in offsets)
    assert abs(sum(offsets, timedelta(0)) / 2_000 - minute / 2) < timedelta(seconds=2)
    assert offsets[:2] == [timedelta(milliseconds=15_422), timedelta(milliseconds=59_801)]


def test_without_jitter_nothing_moves() -> None:
    assert Timing(name="n", expression="0 0 * * *").offset == timedelta(0)


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


def test_a_blackout_keeps_the_tick_and_gives_its_reason() -> None:
    timing = Timing(
        name="report",
        expression="0 0 * * *",
        zone="Pacific/Auckland",
        blackouts=("sat,sun",),
        holidays=(
            Holidays(name="nz", days={date(2026, 12, 25): "Christmas Day", date(2026, 12, 26): ""}),
        ),
    )
    ticks = list(
        timing.ticks(datetime(2026, 12, 23, tzinfo=UTC), datetime(2026, 12, 28, tzinfo=UTC))
    )

    assert [timing.blackout(tick) for tick in ticks] == [
        None,
        "Christmas Day in the calendar nz",
        "2026-12-26 in the calendar nz",
        "in the window sat,sun",
        None,
    ]


def test_it_is_said_in_words() -> None:
    timing = Timing(
        name="report",
        expression="30 2 * * *",
        zone="Europe/Prague",
        dst="both",
        start_at=START,
        end_at=END,
        blackouts=("sat,sun", "2026-11-01"),
        holidays=(Holidays(name="cz", days={}),),
    )

    assert timing.describe() == (
        "At 02:30 every day, Europe/Prague time, twice where clocks repeat it, from 2026-10-20 09:30, "
        "until 2026-11-03 19:00, except sat,sun and 2026-11-01, except on the days of cz"
    )
    assert Timing(name="n", expression="every 5 minutes").describe() == "Every 5 minutes"


@pytest.mark.parametrize(
    ("wrong", "field", "advice"),
    [
        ({"name": ""}, "name", "give 1 to 255"),
        ({"expression": "* * *"}, "cron", "give five"),
        ({"zone": "Mars"}, "timezone", "IANA"),
        ({"dst": "twice"}, "dst", "once, skip, both"),
        ({"jitter": timedelta(seconds=-1)}, "jitter", "give 0 to 86400 s"),
        ({"jitter": timedelta(days=2)}, "jitter", "give 0 to 86400 s"),
        ({"start_at": datetime(2026, 1, 1)}, "start_at", r"\+00:00"),  # noqa: DTZ001 - that is the point
        ({"end_at": datetime(9999, 1, 1, tzinfo=UTC)}, "end_at", "1970 to 2200"),
        ({"start_at": END, "end_at": START}, "end_at", "exchange"),
        ({"start_at": START, "end_at": START + timedelta(hours=1)}, "end_at", "later end"),
        ({"blackouts": ("sat",) * 51}, "blackouts", "at most 50"),
        ({"blackouts": ("",)}, "blackouts", "write sat,sun"),
        ({"blackouts": ("x" * 101,)}, "blackouts", "at most 100"),
        ({"blackouts": ("saturday",)}, "blackouts", "mon, tue"),
        ({"blackouts": ("mon-wed-fri",)}, "blackouts", "write sat,sun"),
        ({"blackouts": ("mon 08:00-08:00",)}, "blackouts", "write 00:00-24:00"),
        ({"blackouts": ("mon 08:00-mon 08:00",)}, "blackouts", "write mon-sun"),
        ({"blackouts": ("24:00-06:00",)}, "blackouts", "00:00 to 23:59"),
        ({"blackouts": ("06:00-25:00",)}, "blackouts", "00:00 to 24:00"),
        ({"blackouts": ("2026-02-30",)}, "blackouts", "as 2026-12-24"),
        ({"blackouts": ("2026-12-26..2026-12-24",)}, "blackouts", "exchange"),
        ({"blackouts": ("2026-12-26 10:00",)}, "blackouts", "has no end"),
        ({"blackouts": ("1800-12-26",)}, "blackouts", "1970 to 2200"),
        ({"holidays": (Holidays(name="x", days={}),) * 21}, "holidays", "at most 20"),
    ],
)
def test_what_is_wrong_is_refused_with_advice(
    wrong: dict[str, object], field: str, advice: str
) -> None:
    right: dict[str, object] = {"name": "n", "expression": "0 0 * * *"}

    with pytest.raises(CronError, match=advice) as refused:
        Timing(**(right | wrong))  # type: ignore[arg-type] # by name

    assert refused.value.field == field


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


def test_nothing_changes_it_afterwards() -> None:
    days = {date(2026, 1, 1): "New Year"}
    calendar = Holidays(name="x", days=days)
    timing = Timing(name="n", expression="0 0 * * *", holidays=(calendar,))

    days.clear()

    assert timing.blackout(datetime(2026, 1, 1, tzinfo=UTC)) == "New Year in the calendar x"
    assert {timing: 1}[Timing(name="n", expression="0 0 * * *", holidays=(calendar,))] == 1


@given(st.text(max_size=120))
def test_any_window_is_read_or_refused(text: str) -> None:
    try:
        window = parse_window(text)
    except CronError:
        return
    assert window.covers(datetime(2026, 1, 1)) in (True, False)  # noqa: DTZ001 - a wall time
