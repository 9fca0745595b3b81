"""Jitter, first and last instant, blackouts and calendars, from the row to the ledger."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quarterjack.cron import Holidays
from quarterjack.queries import calendars
from quarterjack_scheduler.decide import decide
from tests.conftest import TestDatabase
from tests.scheduler.replica import add_schedule, replica
from tests.scheduler.test_decide import due
from tests.waiting import until

SATURDAY = datetime(2026, 6, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CLOSED = {"closed": Holidays(name="closed", days={SATURDAY.date(): "Audit"})}
LEDGER = "SELECT outcome, reason, job_id FROM qj_ticks ORDER BY tick_at"


def decided(now: datetime, **changes: Any) -> list[tuple[datetime, datetime | None, str]]:
    verdict = decide(due(**changes), now, CLOSED)
    return [(each.tick_at, each.until_at, each.outcome) for each in verdict.decisions]


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ({"blackouts": ["sat,sun"]}, "in the window sat,sun"),
        ({"calendars": ["closed"]}, "Audit in the calendar closed"),
    ],
)
@pytest.mark.parametrize("catchup", ["skip", "last", "all"])
def test_a_tick_in_a_blackout_makes_no_job(
    limit: dict[str, list[str]], why: str, catchup: str
) -> None:
    (decision,) = decide(
        due(next_run_at=SATURDAY, catchup=catchup, **limit), SATURDAY, CLOSED
    ).decisions

    assert (decision.tick_at, decision.outcome, decision.reason) == (SATURDAY, "blackout", why)


def test_the_newest_missed_tick_outside_a_blackout_makes_up_for_all() -> None:
    first, now = SATURDAY - 14 * HOUR, SATURDAY + HOUR / 2

    assert decided(now, cron="0 * * * *", next_run_at=first, blackouts=["sat,sun"]) == [
        (first, None, "coalesced"),
        (first + HOUR, None, "enqueued"),
        (first + 2 * HOUR, SATURDAY, "blackout"),
    ]


def test_nothing_makes_up_for_ticks_that_were_all_in_a_blackout() -> None:
    first, now = SATURDAY - 2 * HOUR, SATURDAY + HOUR / 2

    assert decided(now, cron="0 * * * *", next_run_at=first, blackouts=["sat,sun"]) == [
        (first, SATURDAY, "blackout")
    ]


def test_each_missed_tick_in_a_blackout_is_said_where_all_are_caught_up() -> None:
    first, now = SATURDAY - 13 * HOUR, SATURDAY - 11 * HOUR / 2

    found = decided(
        now, cron="0 * * * *", next_run_at=first, blackouts=["00:00-06:00"], catchup="all"
    )

    assert found[0] == (first, None, "enqueued")
    assert found[1:7] == [(first + n * HOUR, None, "blackout") for n in range(1, 7)]
    assert found[7:] == [(first + 7 * HOUR, None, "enqueued")]


def test_a_schedule_ends_with_its_last_tick() -> None:
    row = due(cron="0 * * * *", next_run_at=SATURDAY, end_at=SATURDAY + HOUR / 2)

    assert decide(row, SATURDAY).next_run_at is None


async def test_all_of_it_reaches_the_ledger(database: TestDatabase) -> None:
    today = datetime.now(UTC).date()
    days = {today + timedelta(days=n): "Closed" for n in (-1, 0, 1)}
    await calendars.save(database.pool, Holidays(name="closed", days=days), by="t")
    barred = await add_schedule(database.pool, "barred")
    await database.pool.execute(
        "UPDATE qj_schedules SET calendars = '{closed}', applied_version = NULL WHERE id = $1",
        barred,
    )
    unknown = await add_schedule(database.pool, "unknown")
    await database.pool.execute(
        "UPDATE qj_schedules SET calendars = '{nowhere}' WHERE id = $1", unknown
    )
    ended = await add_schedule(database.pool, "ended")
    await database.pool.execute(
        "UPDATE qj_schedules SET end_at = clock_timestamp() + interval '1.2 s' WHERE id = $1", ended
    )
    shaken = await add_schedule(database.pool, "shaken", cron="0 0 1 1 *")
    await database.pool.execute("UPDATE qj_schedules SET jitter = '1 h' WHERE id = $1", shaken)
    async with replica(database.address):
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) >= 2 FROM qj_ticks WHERE schedule_id = $1", barred
            )
        )
        await until(
            lambda: database.pool.fetchval(
                "SELECT broken_reason LIKE 'it ended at%' FROM qj_schedules WHERE id = $1", ended
            )
        )
        reason = await until(
            lambda: database.pool.fetchval(
                "SELECT broken_reason FROM qj_schedules WHERE id = $1", unknown
            )
        )
        next_run = await until(
            lambda: database.pool.fetchval(
                "SELECT next_run_at FROM qj_schedules WHERE id = $1", shaken
            )
        )

    rows = await database.pool.fetch(
        "SELECT outcome, reason, job_id FROM qj_ticks WHERE schedule_id = $1", barred
    )
    assert {tuple(row) for row in rows} == {("blackout", "Closed in the calendar closed", None)}
    assert reason.startswith("there is no calendar 'nowhere'")
    assert (
        timedelta(0) < next_run - next_run.replace(hour=0, minute=0, second=0, microsecond=0) < HOUR
    )
