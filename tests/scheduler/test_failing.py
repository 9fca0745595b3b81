"""Auto-pause: a schedule that keeps failing stops, and says why."""

import asyncio
from typing import Any

import pytest

from quarterjack.queries import alerts
from tests.conftest import TestDatabase
from tests.scheduler.test_alerts import CHANNELS, HOUR, add_job, add_schedule

PAUSED = "SELECT paused_by, paused_reason, updated_by, version FROM qj_schedules"


async def fails(database: TestDatabase, *states: str, max_failures: int | None = 3) -> int:
    """A schedule whose runs ended in these states, the newest last; the last job's id."""
    await add_schedule(database.pool, expected_within=None, max_failures=max_failures)
    return [await add_job(database.pool, state, ago=HOUR) for state in states][-1]


async def pause_failing(database: TestDatabase) -> list[alerts.Alert]:
    return await alerts.pause_failing(database.pool, channels=CHANNELS)


async def test_what_keeps_failing_is_paused(database: TestDatabase) -> None:
    job = await fails(database, "completed", "discarded", "discarded", "discarded", "executing") - 1

    [alert] = await pause_failing(database)

    row = await database.row(PAUSED)
    reason = f"3 runs failed in a row, the last one job {job}: boom"
    assert tuple(row) == ("scheduler", reason, "scheduler", 2)
    assert (alert.kind, alert.message) == ("paused", f"nightly is paused: {reason}")
    assert await pause_failing(database) == []


@pytest.mark.parametrize(
    "states",
    [
        ["discarded", "discarded"],
        ["discarded", "discarded", "completed"],
        ["discarded", "completed", "discarded", "discarded"],
        ["discarded", "cancelled", "discarded", "discarded"],
        ["discarded", "discarded", "retryable"],
        ["discarded", "discarded", "available"],
    ],
)
async def test_what_does_not_keep_failing_goes_on(
    database: TestDatabase, states: list[str]
) -> None:
    await fails(database, *states)

    assert await pause_failing(database) == []


async def test_without_a_limit_nothing_is_paused(database: TestDatabase) -> None:
    await fails(database, *["discarded"] * 20, max_failures=None)

    assert await pause_failing(database) == []


async def test_one_failure_can_be_enough(database: TestDatabase) -> None:
    job = await fails(database, "discarded", max_failures=1)

    [alert] = await pause_failing(database)

    assert alert.message == f"nightly is paused: a run failed, job {job}: boom"


@pytest.mark.parametrize(
    "edit", ["paused_at = NULL", "args = '{\"mended\": true}', paused_at = NULL"]
)
async def test_after_a_resume_only_new_failures_count(database: TestDatabase, edit: str) -> None:
    await fails(database, "discarded", "discarded", "discarded")
    await pause_failing(database)
    await database.pool.execute(f"UPDATE qj_schedules SET {edit}")
    for _ in range(2):
        await add_job(database.pool, "discarded")
        assert await pause_failing(database) == []
    await add_job(database.pool, "discarded")

    assert len(await pause_failing(database)) == 1
    assert len(await alerts.open(database.pool, limit=10)) == 1


async def test_failures_before_an_edit_do_not_count(database: TestDatabase) -> None:
    await fails(database, "discarded", "discarded", "discarded")
    await database.pool.execute("""UPDATE qj_schedules SET args = '{"mended": true}'""")

    assert await pause_failing(database) == []


async def test_a_pause_is_resolved_by_a_run_after_it(database: TestDatabase) -> None:
    await fails(database, "discarded", "discarded", "discarded")
    await pause_failing(database)
    await add_job(database.pool, "completed")
    await alerts.note_completions(database.pool)
    assert await alerts.resolve(database.pool) == []
    await database.pool.execute("UPDATE qj_schedules SET paused_at = NULL")

    assert len(await alerts.resolve(database.pool)) == 1


async def test_four_at_once_pause_once(database: TestDatabase) -> None:
    await fails(database, "discarded", "discarded", "discarded")

    paused = await asyncio.gather(*(pause_failing(database) for _ in range(4)))

    assert sum(map(len, paused)) == 1
    assert await database.pool.fetchval("SELECT version FROM qj_schedules") == 2


@pytest.mark.parametrize(
    "errors", ["'{}'", "ARRAY['1'::jsonb]", "ARRAY['{\"error\": [1]}'::jsonb]"]
)
async def test_strange_errors_do_not_keep_a_schedule_running(
    database: TestDatabase, errors: Any
) -> None:
    await fails(database, "discarded", max_failures=1)
    await database.pool.execute(f"UPDATE oban_jobs SET errors = {errors}")

    assert len(await pause_failing(database)) == 1
