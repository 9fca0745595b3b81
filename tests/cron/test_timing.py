"""A schedule's time as a whole, against the parts that it is made of."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from quarterjack.cron import CronError, Holidays, Timing, read

START = datetime(2026, 10, 20, 7, 30, tzinfo=UTC)
END = datetime(2026, 11, 3, 18, tzinfo=UTC)
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
    assert timing.count(before, after) == len(expected)
    for _ in range(30):
        instant = before + dice.random() * (after - before)
        later, earlier = (
            [tick for tick in expected if tick > instant],
            [tick for tick in expected if tick < instant],
        )
        assert timing.next_after(instant) == (later[0] if later else None)
        assert timing.prev_before(instant) == (earlier[-1] if earlier else None)
        assert timing.count(instant, after) == len([t for t in expected if t >= instant])
        assert timing.count(before, instant) == len([t for t in expected if t <= instant])


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


def test_nothing_changes_it_afterwards() -> None:
    days = {date(2026, 1, 1): "New Year"}
    calendar = Holidays(name="x", days=days)
    timing = Timing(name="n", expression="0 0 * * *", holidays=(calendar,))

    days.clear()

    assert timing.blackout(datetime(2026, 1, 1, tzinfo=UTC)) == "New Year in the calendar x"
    assert {timing: 1}[Timing(name="n", expression="0 0 * * *", holidays=(calendar,))] == 1
