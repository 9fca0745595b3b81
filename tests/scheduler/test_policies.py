"""What a tick does when something is in its way: overlap, one skipped tick, the freeze."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from quarterjack import Unique
from quarterjack.queries import clock, ticks
from quarterjack_scheduler.decide import decide
from tests.conftest import TestDatabase
from tests.scheduler.replica import add_schedule, judge, lead, strike
from tests.waiting import until

AGO = timedelta(seconds=3)
LIVE = ("suspended", "available", "scheduled", "executing", "retryable")
ENDED = ("completed", "discarded", "cancelled")
JOB = """
INSERT INTO oban_jobs (worker, state, meta, attempted_by)
VALUES ('w', $1::text::oban_job_state, $2, '{n,p,x}') RETURNING id
"""
STATE = "SELECT state::text FROM oban_jobs WHERE id = $1"
HALT = """
CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  WHILE NOT pg_try_advisory_xact_lock(1) LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN NULL;
END $$;
CREATE TRIGGER halt BEFORE UPDATE ON qj_schedules FOR EACH STATEMENT EXECUTE FUNCTION halt();
"""
HALTED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
"""It waits for no lock: strikes do so for a moment only."""


async def ready(database: TestDatabase, **columns: Any) -> None:
    at = (await clock.now(database.pool) - AGO).isoformat()
    await add_schedule(database.pool, "s", next_run_at=at, **{"cron": "0 0 1 1 *", **columns})


async def add_job(database: TestDatabase, state: str, **meta: object) -> int:
    id: int = await database.pool.fetchval(JOB, state, {"cron_name": "s", **meta})
    return id


async def outcome(database: TestDatabase) -> ticks.Struck:
    term = await lead(database.pool)
    held, [struck] = await strike(database.pool, await judge(database.pool, "s"), term=term)
    assert held
    return struck


@pytest.mark.parametrize("state", [*LIVE, *ENDED])
@pytest.mark.parametrize(
    ("overlap", "blocked_by"),
    [
        ("allow", ()),
        ("skip", LIVE),
        ("one_pending", ("suspended", "available", "scheduled", "retryable")),
        ("cancel_previous", ()),
    ],
)
async def test_overlap_is_judged_on_live_runs(
    database: TestDatabase, overlap: str, blocked_by: tuple[str, ...], state: str
) -> None:
    await ready(database, overlap=overlap)
    job = await add_job(database, state)

    struck = await outcome(database)

    blocked = state in blocked_by
    assert struck.outcome == ("skipped_overlap" if blocked else "enqueued")
    assert (f"job {job} " in (struck.reason or "")) is blocked
    now = await database.pool.fetchval(STATE, job)
    cancels = overlap == "cancel_previous" and state in LIVE
    assert now == ("cancelled" if cancels else state)
    assert struck.stopped == ([job] if cancels and state == "executing" else [])


@pytest.mark.parametrize("period", [None, timedelta.resolution])
async def test_a_cancelled_run_gives_its_uniqueness_to_the_next(
    database: TestDatabase, period: timedelta | None
) -> None:
    """Also when that has ended: one statement changes a row once, so it must not only be taken away."""
    unique = Unique(period=period, states="incomplete")
    await ready(database, overlap="cancel_previous", uniqueness=unique.to_json())
    key = unique.key(worker="w", queue="unworked", args={})
    job = await add_job(database, "executing", qj_unique=key)

    struck = await outcome(database)

    assert struck.outcome == "enqueued"
    holder = await database.pool.fetchval("SELECT id FROM oban_jobs WHERE meta ? 'qj_unique'")
    assert (holder, struck.stopped) == (struck.job_id, [job])


async def test_a_run_that_has_just_completed_is_not_cancelled(database: TestDatabase) -> None:
    await ready(database, overlap="cancel_previous")
    job = await add_job(database, "executing")
    await database.pool.execute(HALT)
    async with database.pool.acquire() as worker, worker.transaction():
        await worker.execute("SELECT pg_advisory_xact_lock(1)")
        striking = asyncio.create_task(outcome(database))
        await until(lambda: database.pool.fetchval(HALTED))
        await database.pool.execute("UPDATE oban_jobs SET state = 'completed'")

    struck = await striking

    assert (struck.outcome, struck.stopped) == ("enqueued", [])
    assert await database.pool.fetchval(STATE, job) == "completed"


async def test_runs_of_other_schedules_are_left_alone(database: TestDatabase) -> None:
    await ready(database, overlap="cancel_previous")
    await database.pool.execute(JOB, "executing", {"cron_name": "other"})

    assert (await outcome(database)).stopped == []
    assert (
        await database.pool.fetchval("SELECT count(*) FROM oban_jobs WHERE state = 'executing'")
        == 1
    )


@pytest.mark.parametrize("overlap", ["skip", "one_pending", "cancel_previous"])
async def test_the_jobs_of_a_backfill_are_in_nobodys_way(
    database: TestDatabase, overlap: str
) -> None:
    await ready(database, overlap=overlap)
    job = await add_job(database, "available", trigger="backfill")

    assert (await outcome(database)).outcome == "enqueued"
    kept = "SELECT state = 'available' FROM oban_jobs WHERE id = $1"
    assert await database.pool.fetchval(kept, job)


@pytest.mark.parametrize(
    ("overlap", "enqueued"),
    [("allow", [0, 1, 2]), ("skip", [0]), ("one_pending", [0]), ("cancel_previous", [2])],
)
async def test_of_late_ticks_that_must_not_overlap_one_runs(
    database: TestDatabase, overlap: str, enqueued: list[int]
) -> None:
    await ready(database, overlap=overlap, cron="* * * * * *")
    [row] = await ticks.due(
        database.pool, horizon=timedelta(0), grace=timedelta(0), limit=1, most_overdue=1
    )
    end = row.next_run_at + timedelta(seconds=2)

    decisions = decide(row, end).decisions

    found = [n for n, each in enumerate(decisions) if each.outcome == "enqueued"]
    assert len(decisions) == 3 or overlap
    assert found == enqueued


async def test_one_tick_is_skipped(database: TestDatabase) -> None:
    await ready(database, catchup="all")
    await database.pool.execute(
        "UPDATE qj_schedules SET skip_tick_at = next_run_at, skip_by = 'ana'"
    )

    struck = await outcome(database)

    assert (struck.outcome, struck.reason, struck.job_id) == (
        "skipped_once",
        "skipped by ana",
        None,
    )
    assert await database.pool.fetchval("SELECT version FROM qj_schedules") == 1


async def test_while_frozen_ticks_make_no_job(database: TestDatabase) -> None:
    await ready(database, overlap="cancel_previous")
    job = await add_job(database, "executing")
    await database.pool.execute("INSERT INTO qj_freeze (frozen_by, reason) VALUES ('ben', 'fire')")

    struck = await outcome(database)

    assert (struck.outcome, struck.reason) == ("frozen", "everything was frozen by ben: fire")
    assert (
        await database.pool.fetchval("SELECT count(*) FROM oban_jobs WHERE state = 'executing'")
        == 1
    )
    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 1
    assert job


async def test_the_timeout_of_a_schedule_travels_with_its_job(database: TestDatabase) -> None:
    await ready(database, timeout="90 s")

    await outcome(database)

    assert await database.pool.fetchval("SELECT meta -> 'timeout' FROM oban_jobs") == 90
