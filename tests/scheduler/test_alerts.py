"""Alerts: who is late, who is not, who keeps failing; each is said once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from quarterjack.database import Database
from quarterjack.queries import alerts, deliveries
from quarterjack.queries.alerts import Alert
from tests.conftest import TestDatabase

CHANNELS = ("webhook", "email")
SCHEDULE = """
INSERT INTO qj_schedules
  (name, worker, cron, planned_from, next_run_at, last_tick_at, expected_within, max_failures, inserted_at, updated_at)
VALUES (
  'nightly', 'w', '0 3 * * *', now() - interval '1 day', now() + $1::interval, now() - interval '2 hours',
  $2, $3, now() - interval '1 day', now() - interval '1 day'
)
RETURNING id
"""
TICK = """
INSERT INTO qj_ticks (schedule_id, tick_at, outcome, reason, job_id, version)
VALUES ($1, now() - $2::interval, $3, 'because', $4, 1)
"""
JOB = """
INSERT INTO oban_jobs (worker, state, attempt, meta, errors, inserted_at, completed_at)
SELECT
  'w', $1::text::oban_job_state, 1, jsonb_build_object('cron_name', $2::text, 'cron', true),
  ARRAY[jsonb_build_object('attempt', 1, 'error', $3::text)],
  timezone('UTC', clock_timestamp() - $4::interval),
  CASE WHEN $1 = 'completed' THEN timezone('UTC', clock_timestamp() - $4::interval) END
RETURNING id
"""
HOUR = timedelta(hours=1)


async def add_schedule(
    db: Database,
    *,
    next_in: timedelta = HOUR,
    expected_within: timedelta | None = HOUR,
    max_failures: int | None = None,
) -> int:
    id: int = await db.fetchval(SCHEDULE, next_in, expected_within, max_failures)
    return id


async def add_job(
    db: Database, state: str, *, ago: timedelta = timedelta(0), error: str = "boom\nin line 7"
) -> int:
    id: int = await db.fetchval(JOB, state, "nightly", error, ago)
    return id


async def add_tick(
    db: Database, id: int, *, ago: timedelta, outcome: str = "enqueued", job: int | None = None
) -> None:
    await db.execute(TICK, id, ago, outcome, job)


async def look(db: Database) -> list[Alert]:
    await alerts.note_completions(db)
    return await alerts.raise_late(db, channels=CHANNELS, limit=100)


async def overdue(database: TestDatabase) -> int:
    """A schedule whose tick of two hours ago nobody has decided."""
    return await add_schedule(database.pool, next_in=-2 * HOUR)


async def stuck(database: TestDatabase) -> int:
    """A schedule whose run of two hours ago has not completed."""
    id = await add_schedule(database.pool)
    job = await add_job(database.pool, "retryable", ago=2 * HOUR)
    await add_tick(database.pool, id, ago=2 * HOUR, job=job)
    return id


async def test_a_tick_that_nobody_decides_raises_an_alert(database: TestDatabase) -> None:
    id = await overdue(database)

    [alert] = await look(database.pool)

    assert (alert.schedule_id, alert.schedule, alert.kind) == (id, "nightly", "undecided")
    assert alert.tick_at == await database.pool.fetchval("SELECT next_run_at FROM qj_schedules")
    assert alert.message.endswith("was expected within 01:00:00: no scheduler has decided it")
    assert await alerts.open(database.pool, limit=10) == [alert]


async def test_a_schedule_set_aside_raises_an_alert(database: TestDatabase) -> None:
    await overdue(database)
    await database.pool.execute("UPDATE qj_schedules SET broken_reason = 'unreadable'")

    [alert] = await look(database.pool)

    assert alert.message.endswith("it is set aside: unreadable")


@pytest.mark.parametrize("outcome", ["enqueued", "skipped_missed", "skipped_window"])
async def test_a_tick_without_a_completed_run_raises_an_alert(
    database: TestDatabase, outcome: str
) -> None:
    id = await add_schedule(database.pool)
    await add_tick(database.pool, id, ago=2 * HOUR, outcome=outcome)

    [alert] = await look(database.pool)

    assert alert.kind == "uncompleted"


async def test_the_alert_says_how_the_run_stands(database: TestDatabase) -> None:
    await stuck(database)

    [alert] = await look(database.pool)

    job = await database.pool.fetchval("SELECT id FROM oban_jobs")
    assert alert.message.endswith(f"job {job} is retryable, attempt 1 of 20")


@pytest.mark.parametrize(
    "relief",
    [
        "UPDATE qj_schedules SET paused_at = now(), paused_by = 'me'",
        "INSERT INTO qj_freeze (frozen_by, reason) VALUES ('me', 'incident')",
        "UPDATE qj_schedules SET expected_within = NULL",
        "UPDATE qj_schedules SET expected_within = '3 hours'",
        "DELETE FROM qj_schedules",
    ],
)
@pytest.mark.parametrize("late", [overdue, stuck])
async def test_nothing_is_raised_for_what_nobody_expects(
    database: TestDatabase, late: Any, relief: str
) -> None:
    await late(database)
    await database.pool.execute(relief)

    assert await look(database.pool) == []


async def test_a_tick_from_before_a_pause_raises_nothing_after_it(database: TestDatabase) -> None:
    await stuck(database)
    await database.pool.execute("UPDATE qj_schedules SET paused_at = now(), paused_by = 'me'")
    await database.pool.execute("UPDATE qj_schedules SET paused_at = NULL")

    assert await look(database.pool) == []


async def test_nothing_is_raised_before_the_time_is_up(database: TestDatabase) -> None:
    id = await add_schedule(database.pool, next_in=-HOUR / 2)
    await add_tick(database.pool, id, ago=HOUR / 2)

    assert await look(database.pool) == []


@pytest.mark.parametrize("outcome", ["skipped_overlap", "frozen", "skipped_once", "coalesced"])
async def test_a_tick_that_was_to_make_no_run_raises_nothing(
    database: TestDatabase, outcome: str
) -> None:
    id = await add_schedule(database.pool)
    await add_tick(database.pool, id, ago=2 * HOUR, outcome=outcome)

    assert await look(database.pool) == []


async def test_a_completed_run_counts_after_its_job_is_pruned(database: TestDatabase) -> None:
    id = await add_schedule(database.pool)
    job = await add_job(database.pool, "completed", ago=1.5 * HOUR)
    await add_tick(database.pool, id, ago=2 * HOUR, job=job)
    await alerts.note_completions(database.pool)
    await database.pool.execute("DELETE FROM oban_jobs")

    assert await look(database.pool) == []


async def test_strange_jobs_are_no_completed_runs(database: TestDatabase) -> None:
    await stuck(database)
    await add_job(database.pool, "completed", ago=-HOUR)
    await database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, state, meta, completed_at)
        VALUES
          ('w', 'completed', '["cron_name"]', now()), ('w', 'completed', '"cron_name"', now()),
          ('w', 'completed', '{"cron_name": null}', now()), ('w', 'completed', '{"cron_name": "nightly"}', NULL),
          ('w', 'completed', '{"cron_name": "nightly"}', 'infinity')
        """
    )

    assert len(await look(database.pool)) == 1


@pytest.mark.parametrize("late", [overdue, stuck])
async def test_four_replicas_raise_one_alert(database: TestDatabase, late: Any) -> None:
    await late(database)

    raised = await asyncio.gather(*(look(database.pool) for _ in range(4)))

    assert sum(map(len, raised)) == 1
    assert await database.pool.fetchval("SELECT count(*) FROM qj_alert_deliveries") == 2


async def test_a_schedule_that_stays_late_is_late_once(database: TestDatabase) -> None:
    id = await stuck(database)
    await look(database.pool)
    await add_tick(database.pool, id, ago=1.5 * HOUR)

    assert await look(database.pool) == []


async def test_a_completed_run_resolves_the_alert(database: TestDatabase) -> None:
    await stuck(database)
    [raised] = await look(database.pool)
    assert await alerts.resolve(database.pool) == []
    job = await add_job(database.pool, "completed")
    assert await look(database.pool) == []

    [resolved] = await alerts.resolve(database.pool)

    assert resolved.id == raised.id
    assert f"job {job} completed at" in (resolved.resolution or "")
    assert await alerts.open(database.pool, limit=10) == []
    assert await look(database.pool) == []


async def test_the_next_late_tick_raises_another_alert(database: TestDatabase) -> None:
    id = await stuck(database)
    await look(database.pool)
    await add_job(database.pool, "completed", ago=1.8 * HOUR)
    await look(database.pool)
    await alerts.resolve(database.pool)
    await add_tick(database.pool, id, ago=1.5 * HOUR)
    await database.pool.execute(
        "UPDATE qj_schedules SET last_tick_at = now() - interval '1.5 hours'"
    )

    assert len(await look(database.pool)) == 1
    assert await database.pool.fetchval("SELECT count(*) FROM qj_alerts") == 2


async def test_a_run_by_hand_does_not_replace_the_scheduler(database: TestDatabase) -> None:
    await overdue(database)
    await look(database.pool)
    await add_job(database.pool, "completed")
    await alerts.note_completions(database.pool)

    assert await alerts.resolve(database.pool) == []
    await database.pool.execute("UPDATE qj_schedules SET next_run_at = now() + interval '1 hour'")
    assert len(await alerts.resolve(database.pool)) == 1


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("DELETE FROM qj_schedules", "the schedule was removed"),
        ("UPDATE qj_schedules SET expected_within = NULL", "no run is expected any more"),
    ],
)
async def test_an_alert_ends_with_what_it_is_about(
    database: TestDatabase, end: str, words: str
) -> None:
    await stuck(database)
    await look(database.pool)
    await database.pool.execute(end)

    [resolved] = await alerts.resolve(database.pool)

    assert resolved.resolution == f"nightly: {words}"


async def test_pruning_leaves_open_alerts(database: TestDatabase) -> None:
    await stuck(database)
    await look(database.pool)
    await deliveries.prune(database.pool, age=timedelta(0))
    assert len(await alerts.open(database.pool, limit=10)) == 1
    await add_job(database.pool, "completed")
    await look(database.pool)
    await alerts.resolve(database.pool)

    await deliveries.prune(database.pool, age=timedelta(0))

    assert await database.pool.fetchval("SELECT count(*) FROM qj_alert_deliveries") == 0
    assert await database.pool.fetchval("SELECT count(*) FROM qj_completions") == 1
