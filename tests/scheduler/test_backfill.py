"""Backfills: each tick of the range once, at the rate that was asked for, and never after the end."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from quarterjack.queries import backfills, holds
from quarterjack_scheduler.backfill import next_ticks, tick_id, to_metas
from tests.conftest import TestDatabase
from tests.scheduler.replica import HOLDER, add_schedule, lead
from tests.waiting import until

START = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
HOUR = timedelta(hours=1)
MADE = "SELECT meta ->> 'tick_at' FROM oban_jobs ORDER BY id"
STATE = "SELECT state, made, next_tick_at, ended_why, ended_at IS NULL AS goes_on FROM qj_backfills"


async def fill(database: TestDatabase, name: str = "s", **columns: Any) -> int:
    """Start a backfill of five hours of an hourly schedule."""
    paused = columns.pop("paused", False)
    per_minute, hours = columns.pop("per_minute", 120), columns.pop("hours", 5)
    schedule_id = await add_schedule(database.pool, name, **{"cron": "0 * * * *", **columns})
    if paused:
        await holds.pause(database.pool, schedule_id, by="ana", reason="x", until=None)
    id = await backfills.start(
        database.pool,
        request_id=name,
        schedule_id=schedule_id,
        version=1,
        from_at=START,
        to_at=START + HOUR * hours - timedelta(seconds=1),
        per_minute=per_minute,
        ticks=hours,
        first=START,
        by="ana",
        reason="lost",
    )
    assert id is not None
    return id


async def read(database: TestDatabase) -> backfills.Running:
    [row] = await backfills.running(database.pool, limit=10)
    return row


async def make(
    database: TestDatabase, row: backfills.Running, term: int, holder: UUID = HOLDER
) -> tuple[bool, list[int]]:
    """Send a step as the leader sends it."""
    ticks, following = next_ticks(row)
    assert row.version is not None
    return await backfills.make(
        database.pool,
        holder=holder,
        term=term,
        id=row.id,
        version=row.version,
        expected_at=row.next_tick_at,
        next_tick_at=following,
        metas=to_metas(row, ticks, term=term),
    )


async def let_it_step(database: TestDatabase) -> None:
    await database.pool.execute("UPDATE qj_backfills SET next_step_at = clock_timestamp()")


async def made(database: TestDatabase) -> list[str]:
    return [row[0] for row in await database.pool.fetch(MADE)]


def hours(*numbers: int) -> list[str]:
    return [(START + HOUR * number).isoformat() for number in numbers]


async def test_a_step_makes_the_next_jobs(database: TestDatabase) -> None:
    term = await lead(database.pool)
    id = await fill(database, args={"a": 1}, queue="reports", timeout="90 s")

    held, ids = await make(database, await read(database), term)

    job = await database.row("SELECT * FROM oban_jobs WHERE id = $1", ids[0])
    assert held
    assert await made(database) == hours(0, 1)
    assert (job["state"], job["queue"], job["args"]) == ("available", "reports", {"a": 1})
    assert job["scheduled_at"] >= datetime(2026, 6, 1)  # noqa: DTZ001 - as Oban stores it
    assert job["meta"] == {
        "backfill_id": id, "cron_expr": "0 * * * *", "cron_name": "s", "cron_tz": "Etc/UTC",
        "schedule_id": (await read(database)).schedule_id, "schedule_version": 1, "term": term,
        "tick_at": START.isoformat(), "tick_id": tick_id(id, START), "timeout": 90.0, "trigger": "backfill",
    }  # fmt: skip
    assert tuple(await database.row(STATE)) == ("running", 2, START + 2 * HOUR, None, True)


async def test_a_repeated_step_makes_nothing(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await fill(database)
    row = await read(database)
    await make(database, row, term)
    await let_it_step(database)

    assert await make(database, row, term) == (True, [])
    assert await made(database) == hours(0, 1)


async def test_of_concurrent_steps_one_makes_jobs(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await fill(database)
    row = await read(database)

    found = await asyncio.gather(*(make(database, row, term) for _ in range(8)))

    assert sorted(len(ids) for _, ids in found) == [0] * 7 + [2]
    assert await made(database) == hours(0, 1)


async def test_a_tick_that_has_its_job_is_refused(database: TestDatabase) -> None:
    term = await lead(database.pool)
    id = await fill(database)
    await database.pool.execute(
        "INSERT INTO oban_jobs (worker, meta) VALUES ('w', $1)", {"tick_id": tick_id(id, START)}
    )

    with pytest.raises(asyncpg.UniqueViolationError):
        await make(database, await read(database), term)

    assert tuple(await database.row(STATE))[:3] == ("running", 0, START)


@pytest.mark.parametrize("which", ["term", "own_old_term", "holder"])
async def test_another_terms_step_is_fenced(database: TestDatabase, which: str) -> None:
    old = await lead(database.pool)
    if which != "holder":
        await lead(database.pool, HOLDER if which == "own_old_term" else uuid4())
    id = await fill(database)
    holder = uuid4() if which == "holder" else HOLDER

    assert await make(database, await read(database), old, holder) == (False, [])
    assert not await backfills.fail(database.pool, holder=holder, term=old, id=id, why="x")
    assert await made(database) == []
    assert tuple(await database.row(STATE))[:2] == ("running", 0)


async def test_no_term_begins_while_a_step_runs(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await fill(database)
    row = await read(database)
    async with database.pool.acquire() as leader:
        transaction = leader.transaction()
        await transaction.start()
        await make(replace(database, pool=leader), row, term)  # type: ignore[arg-type] # asks as a pool does
        taking = asyncio.create_task(lead(database.pool, uuid4()))
        pid = leader.get_server_pid()
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))", pid
            )
        )
        assert not taking.done()
        await transaction.commit()

    assert await taking > term


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE qj_schedules SET args = '{\"edited\": true}'",
        "DELETE FROM qj_schedules",
        "UPDATE qj_backfills SET next_step_at = clock_timestamp() + interval '1 h'",
        "UPDATE qj_backfills SET state = 'stopped', ended_at = now()",
        "INSERT INTO qj_freeze (frozen_by, reason) VALUES ('ana', 'fire')",
    ],
)
async def test_what_has_changed_meanwhile_stops_a_step_on_its_way(
    database: TestDatabase, change: str
) -> None:
    term = await lead(database.pool)
    await fill(database)
    row = await read(database)
    await database.pool.execute(change)

    assert await make(database, row, term) == (True, [])
    assert await made(database) == []


async def test_a_held_backfill_is_passed_over(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await fill(database)
    row = await read(database)
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM qj_backfills FOR UPDATE")

        assert await make(database, row, term) == (True, [])


@pytest.mark.parametrize(
    ("per_minute", "jobs", "pause"), [(1, 1, 60.0), (90, 1, 2 / 3), (150, 2, 0.8), (6000, 100, 1.0)]
)
async def test_the_rate_is_kept(
    database: TestDatabase, per_minute: int, jobs: int, pause: float
) -> None:
    term = await lead(database.pool)
    await fill(database, per_minute=per_minute, hours=500)

    await make(database, await read(database), term)

    assert len(await made(database)) == jobs
    wait = (await read(database)).wait.total_seconds()
    assert pause - 0.5 < wait <= pause


async def test_jobs_are_those_of_the_schedule_now_and_ticks_those_of_the_dry_run(
    database: TestDatabase,
) -> None:
    term = await lead(database.pool)
    await fill(database)
    await database.pool.execute("UPDATE qj_schedules SET cron = '7 7 7 7 *', queue = 'new'")

    await make(database, await read(database), term)

    assert await made(database) == hours(0, 1)
    job = await database.row("SELECT queue, meta ->> 'schedule_version' FROM oban_jobs")
    assert tuple(job) == ("new", "2")


async def test_a_step_does_not_ring_inside_its_transaction(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await fill(database)
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))

    await make(database, await read(database), term)
    await database.pool.execute("INSERT INTO oban_jobs (worker, queue) VALUES ('w', 'after')")

    async with asyncio.timeout(5):
        assert json.loads(await heard.get()) == {"queue": "after"}
    await ear.close()


async def test_one_backfill_of_a_schedule_goes_on_at_a_time(database: TestDatabase) -> None:
    schedule_id = await fill(database)
    [row] = await backfills.of_schedule(database.pool, schedule_id, limit=5)
    again: dict[str, Any] = {
        "schedule_id": row.schedule_id, "version": 1, "from_at": row.from_at, "to_at": row.to_at,
        "per_minute": 60, "ticks": 5, "first": START, "by": "ben", "reason": "too",
    }  # fmt: skip

    assert await backfills.start(database.pool, request_id="other", **again) is None
    assert await backfills.stop(database.pool, row.id, schedule_id=row.schedule_id, by="ben") == 0
    assert await backfills.start(database.pool, request_id="s", **again) is None
    assert await backfills.start(database.pool, request_id="other", **again) is not None
    assert await backfills.stop(database.pool, row.id, schedule_id=row.schedule_id, by="c") is None


async def test_one_that_was_stopped_does_not_fail(database: TestDatabase) -> None:
    term = await lead(database.pool)
    schedule_id = await fill(database)
    id = (await read(database)).id
    await backfills.stop(database.pool, id, schedule_id=schedule_id, by="ben")

    assert not await backfills.fail(database.pool, holder=HOLDER, term=term, id=id, why="late")
    assert (await database.row(STATE))["state"] == "stopped"
