"""What becomes of due ticks, from the watermark and the clock alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quarterjack import Unique, cron
from quarterjack.queries.ticks import Due
from quarterjack_scheduler.decide import MOST, decide, tick_id, to_move, to_rows

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
FALL_BACK = datetime(2026, 11, 1, 6, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def due(**changes: Any) -> Due:
    fields: dict[str, Any] = {
        "id": 1,
        "name": "s",
        "version": 1,
        "updated_at": NOON,
        "worker": "w",
        "cron": "* * * * *",
        "timezone": "Etc/UTC",
        "dst": "once",
        "jitter": timedelta(0),
        "start_at": None,
        "end_at": None,
        "blackouts": [],
        "calendars": [],
        "args": {},
        "queue": "q",
        "priority": 0,
        "max_attempts": 3,
        "tags": [],
        "uniqueness": None,
        "catchup": "last",
        "catchup_window": timedelta(hours=24),
        "catchup_limit": 100,
        "overlap": "allow",
        "timeout": None,
        "next_run_at": NOON,
    }
    return Due(**{**fields, **changes})


def outcomes(due: Due, now: datetime) -> list[tuple[datetime, datetime | None, str]]:
    return [(d.tick_at, d.until_at, d.outcome) for d in decide(due, now).decisions]


@pytest.mark.parametrize("catchup", ["skip", "last", "all"])
@pytest.mark.parametrize("late", [timedelta(0), SECOND, 30 * SECOND])
def test_a_late_tick_is_enqueued_under_every_policy(catchup: str, late: timedelta) -> None:
    assert outcomes(due(catchup=catchup), NOON + late) == [(NOON, None, "enqueued")]


@pytest.mark.parametrize("catchup", ["skip", "last", "all"])
def test_every_tick_of_a_failover_is_enqueued(catchup: str) -> None:
    verdict = decide(due(catchup=catchup, cron="* * * * * *"), NOON + 20 * SECOND)

    assert [d.tick_at for d in verdict.decisions] == [NOON + n * SECOND for n in range(21)]
    assert {d.outcome for d in verdict.decisions} == {"enqueued"}
    assert verdict.next_run_at == NOON + 21 * SECOND


def test_skip_enqueues_nothing_that_was_missed() -> None:
    verdict = decide(due(catchup="skip"), NOON + 10 * MINUTE + 45 * SECOND)

    [line] = verdict.decisions
    assert (line.tick_at, line.until_at) == (NOON, NOON + 10 * MINUTE)
    assert (line.outcome, line.ticks) == ("skipped_missed", 11)
    assert verdict.next_run_at == NOON + 11 * MINUTE


def test_last_coalesces_into_the_newest() -> None:
    found = outcomes(due(), NOON + 10 * MINUTE + 45 * SECOND)

    assert found == [
        (NOON, NOON + 9 * MINUTE, "coalesced"),
        (NOON + 10 * MINUTE, None, "enqueued"),
    ]


def test_last_prefers_a_tick_that_is_only_late() -> None:
    found = outcomes(due(), NOON + 10 * MINUTE + 5 * SECOND)

    assert found == [
        (NOON, NOON + 9 * MINUTE, "coalesced"),
        (NOON + 10 * MINUTE, None, "enqueued"),
    ]


def test_one_missed_tick_is_enqueued_by_last() -> None:
    assert outcomes(due(), NOON + 45 * SECOND) == [(NOON, None, "enqueued")]


def test_last_drops_what_its_window_leaves_behind() -> None:
    it = due(cron="0 0 1 * *", catchup_window=HOUR, next_run_at=datetime(2026, 1, 1, tzinfo=UTC))

    [line] = decide(it, datetime(2026, 1, 2, tzinfo=UTC)).decisions

    assert (line.outcome, line.until_at) == ("skipped_window", None)


def test_all_enqueues_each_within_window_and_limit() -> None:
    it = due(catchup="all", catchup_limit=3)

    assert outcomes(it, NOON + 5 * MINUTE + 45 * SECOND) == [
        (NOON, NOON + 2 * MINUTE, "skipped_window"),
        (NOON + 3 * MINUTE, None, "enqueued"),
        (NOON + 4 * MINUTE, None, "enqueued"),
        (NOON + 5 * MINUTE, None, "enqueued"),
    ]


def test_all_keeps_to_its_window() -> None:
    it = due(catchup="all", catchup_window=2 * MINUTE)

    assert outcomes(it, NOON + 10 * MINUTE + 31 * SECOND) == [
        (NOON, NOON + 8 * MINUTE, "skipped_window"),
        (NOON + 9 * MINUTE, None, "enqueued"),
        (NOON + 10 * MINUTE, None, "enqueued"),
    ]


def test_a_huge_catch_up_goes_in_pieces_that_lose_nothing() -> None:
    it = due(cron="* * * * * *", catchup="all", catchup_limit=100_000)
    now = NOON + 3 * HOUR
    seen: list[datetime] = []
    searched = list[None]()

    while it.next_run_at <= now:
        verdict = decide(it, now, progressed=lambda: searched.append(None))
        seen += [d.tick_at for d in verdict.decisions]
        assert len(verdict.decisions) <= MOST + 31
        assert {d.outcome for d in verdict.decisions} == {"enqueued"}
        assert verdict.next_run_at is not None
        it = due(
            cron=it.cron, catchup="all", catchup_limit=100_000, next_run_at=verdict.next_run_at
        )

    assert seen == [NOON + n * SECOND for n in range(3 * 3600 + 1)]
    assert not searched


def test_ticks_that_lie_close_in_one_month_are_not_all_looked_at() -> None:
    looks = list[None]()
    first, last = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 31))
    row = due(cron="* * * * 1 *", catchup="all", catchup_window=365 * 24 * HOUR, next_run_at=first)

    verdict = decide(row, NOON, progressed=lambda: looks.append(None))

    dropped, *kept = verdict.decisions
    end = last + 24 * HOUR
    assert (dropped.tick_at, dropped.until_at) == (first, end - 101 * SECOND)
    assert [each.tick_at for each in kept] == [end - n * SECOND for n in range(100, 0, -1)]
    assert len(looks) < 50


def test_three_years_of_seconds_are_two_lines() -> None:
    verdict = decide(due(cron="* * * * * *"), NOON + timedelta(days=1100))

    assert [d.outcome for d in verdict.decisions] == ["coalesced", "enqueued"]
    assert verdict.decisions[0].ticks == 1100 * 24 * 3600


def test_what_a_day_of_minutes_missed_is_counted() -> None:
    verdict = decide(due(cron="* * * * *"), NOON + timedelta(days=1))

    assert verdict.decisions[0].ticks == 24 * 60


def test_seconds_around_a_change_of_clocks_are_too_many_to_count() -> None:
    row = due(cron="* * * * * *", timezone="America/New_York", next_run_at=FALL_BACK)

    verdict = decide(row, FALL_BACK + HOUR)

    assert verdict.decisions[0].ticks is None


def test_runs_that_must_not_overlap_are_not_enqueued_together() -> None:
    found = outcomes(due(cron="* * * * * *", overlap="skip", catchup="all"), NOON + 2 * SECOND)

    assert [outcome for _, _, outcome in found] == [
        "enqueued",
        "skipped_overlap",
        "skipped_overlap",
    ]


@pytest.mark.parametrize("catchup", ["skip", "last", "all"])
@pytest.mark.parametrize("outage", [5, 29, 31, 95, 4000])
@pytest.mark.parametrize("expression", ["* * * * * *", "*/7 * * * * *", "* * * * *", "0 * * * *"])
def test_no_tick_is_left_out_or_decided_twice(catchup: str, outage: int, expression: str) -> None:
    now = NOON + outage * SECOND
    verdict = decide(due(cron=expression, catchup=catchup, catchup_limit=10), now)

    covered: list[datetime] = []
    for line in verdict.decisions:
        span = cron.parse(expression).ticks(line.tick_at, line.until_at or line.tick_at, UTC)
        found = list(span)
        assert line.ticks in (None, len(found))
        covered += found
    assert covered == list(cron.parse(expression).ticks(NOON, now, UTC))
    assert verdict.decided_until == covered[-1]
    assert verdict.next_run_at == cron.parse(expression).next_after(now, UTC)


@pytest.mark.parametrize(
    ("zone", "day", "ticks"),
    [
        ("Europe/Prague", (2026, 3, 29), ["2026-03-29T01:00+00:00"]),
        ("Europe/Prague", (2026, 10, 25), ["2026-10-25T00:30+00:00"]),
        ("Australia/Lord_Howe", (2026, 10, 3), ["2026-10-03T15:30+00:00"]),
        ("Pacific/Apia", (2011, 12, 30), ["2011-12-30T10:00+00:00", "2011-12-30T12:30+00:00"]),
    ],
)
def test_a_clock_change_costs_no_run_and_doubles_none(
    zone: str, day: tuple[int, int, int], ticks: list[str]
) -> None:
    local = cron.zone(zone)
    start = datetime(*day, tzinfo=UTC) - timedelta(hours=14)
    parsed = cron.parse("30 2 * * *")
    first = parsed.next_after(start, local)
    it = due(cron="30 2 * * *", timezone=zone, catchup="all", next_run_at=first)

    verdict = decide(it, datetime(*day, 20, tzinfo=UTC))

    found = [d.tick_at.isoformat(timespec="minutes") for d in verdict.decisions]
    assert found[-len(ticks) :] == ticks


@pytest.mark.parametrize(
    "changes", [{"cron": "61 * * * *"}, {"cron": ""}, {"timezone": "Mars/Olympus"}]
)
def test_what_cannot_be_read_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(cron.CronError):
        decide(due(**changes), NOON)


def test_a_tick_has_one_name_for_ever() -> None:
    assert tick_id(7, NOON) == "f0038af5-f523-5299-b473-55338ed2ed6c"
    assert len({tick_id(id, NOON + n * SECOND) for id in (1, 2) for n in range(50)}) == 100


def test_what_is_sent_tells_the_tick_and_its_schedule() -> None:
    unique = Unique(period=HOUR)
    verdict = decide(due(uniqueness=unique.to_json(), version=4), NOON)

    [row] = to_rows(verdict, term=9, traceparent="00-x")

    assert row["meta"] | {"tick_id": "", "qj_unique": ""} == {
        "cron": True,
        "cron_expr": "* * * * *",
        "cron_name": "s",
        "cron_tz": "Etc/UTC",
        "schedule_id": 1,
        "schedule_version": 4,
        "tick_at": NOON.isoformat(),
        "tick_id": "",
        "term": 9,
        "trigger": "schedule",
        "qj_unique": "",
        "traceparent": "00-x",
    }
    assert row["meta"]["qj_unique"] == unique.key(worker="w", queue="q", args={})
    assert row["unique_period"] == "1:00:00"
    assert to_move(verdict)["expected_at"] == NOON.isoformat()


def test_an_interval_is_decided_like_any_other() -> None:
    verdict = decide(due(cron="every 90 seconds", catchup="all"), NOON + 4 * MINUTE)

    assert [d.tick_at for d in verdict.decisions] == [NOON + n * 90 * SECOND for n in range(3)]
    assert verdict.next_run_at == NOON + 270 * SECOND


def test_hashed_numbers_are_those_of_the_schedules_name() -> None:
    first, second = (decide(due(cron="H H * * *", name=name), NOON) for name in ("a", "b"))

    assert first.next_run_at != second.next_run_at
    assert decide(due(cron="H H * * *", name="a"), NOON) == replace(first, due=first.due)
