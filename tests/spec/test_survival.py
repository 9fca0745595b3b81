"""What is killed while it works loses nothing and doubles nothing."""

import asyncio
import os
import signal
from datetime import timedelta
from functools import partial

import asyncpg

import quarterjack
from quarterjack import NewJob
from quarterjack.database import LOST
from tests.conftest import TestDatabase
from tests.processes import Cluster, Service, cluster
from tests.waiting import until

TEN_SCHEDULES = """
INSERT INTO qj_schedules (name, worker, cron, queue, overlap, catchup)
SELECT 'every_second_' || n, 'w', '* * * * * *', 'unworked', 'allow', 'all'
FROM generate_series(1, 10) AS n
"""
GRID = """
SELECT
  s.id,
  extract(epoch FROM max(t.tick_at) - min(t.tick_at))::integer + 1 AS expected,
  count(*) AS decided,
  count(*) FILTER (WHERE t.outcome = 'enqueued') AS enqueued,
  (SELECT count(*) FROM oban_jobs AS j WHERE j.meta ->> 'schedule_id' = s.id::text) AS jobs,
  min(t.tick_at) AS first
FROM qj_schedules AS s
JOIN qj_ticks AS t ON t.schedule_id = s.id
GROUP BY s.id
"""
HOLDER = """
SELECT p.pid FROM qj_lease AS l JOIN qj_peers AS p ON p.uuid = l.holder
WHERE l.expires_at > clock_timestamp() AND p.pid = ANY ($1::integer[])
"""


async def test_ten_kills_of_the_leader_leave_each_tick_exactly_once(database: TestDatabase) -> None:
    await database.pool.execute(TEN_SCHEDULES)
    async with cluster(database) as running:
        await running.scheduler("scheduler-0")
        await running.scheduler("scheduler-1")
        for number in range(2, 12):
            leader = await _leader(running)
            decided = await database.pool.fetchval("SELECT count(*) FROM qj_ticks")
            await leader.kill()
            await running.scheduler(f"scheduler-{number}")
            await until(
                partial(database.pool.fetchval, "SELECT count(*) > $1 FROM qj_ticks", decided),
                within=15,
            )
        last = await database.pool.fetchval("SELECT clock_timestamp()")
        await until(
            lambda: database.pool.fetchval("SELECT min(next_run_at) > $1 FROM qj_schedules", last),
            within=15,
        )

        rows = await database.pool.fetch(GRID)

    assert len(rows) == 10
    for row in rows:
        assert row["decided"] == row["expected"]
        assert row["enqueued"] == row["jobs"] == row["expected"]


async def test_a_killed_workers_jobs_run_elsewhere(database: TestDatabase) -> None:
    async with cluster(database) as running:
        await running.scheduler()
        first = await running.worker("worker-1", import_="tests.jobs", queues="default=20")
        await quarterjack.enqueue_many(
            database.pool, [NewJob(worker="wait_for_release", args={"n": n}) for n in range(20)]
        )
        await until(lambda: _states(database, executing=20))
        _kill_all_of(first)
        await running.worker("worker-2", import_="tests.jobs", queues="default=20")
        await database.pool.execute("CREATE TABLE released ()")

        await until(lambda: _states(database, completed=20), within=20)

        rows = await database.pool.fetch("SELECT attempt, attempted_by[1] AS node FROM oban_jobs")
    assert {(row["attempt"], row["node"]) for row in rows} == {(2, "worker-2")}


async def test_everything_resumes_after_an_immediate_restart_under_load(
    own_server_database: TestDatabase,
) -> None:
    database = own_server_database
    await database.pool.execute(TEN_SCHEDULES)
    async with cluster(database) as running:
        services = [
            await running.scheduler("scheduler-1"),
            await running.scheduler("scheduler-2"),
            await running.worker("worker-1", import_="tests.jobs", queues="default=20"),
            await running.worker("worker-2", import_="tests.jobs", queues="default=20"),
        ]
        await until(
            lambda: database.pool.fetchval("SELECT count(*) >= 20 FROM qj_ticks"), within=15
        )
        accepted = 0
        for batch in range(20):
            await quarterjack.enqueue_many(
                database.pool, [NewJob(worker="count", args={"n": n}) for n in range(50)]
            )
            accepted += 50
            if batch == 10:
                await asyncio.to_thread(database.server.stop, "immediate")
                await asyncio.to_thread(database.server.start)
                await until(lambda: _answers(database), within=30)

        await until(lambda: _states(database, completed=accepted), within=60)
        restarted = await database.pool.fetchval("SELECT clock_timestamp()")
        await until(
            lambda: database.pool.fetchval(
                "SELECT min(next_run_at) > $1 FROM qj_schedules", restarted + timedelta(seconds=2)
            ),
            within=20,
        )
        rows = await database.pool.fetch(GRID)

        assert all(service.running for service in services)
    for row in rows:
        assert row["decided"] == row["expected"]
        assert row["enqueued"] == row["jobs"] == row["expected"]


async def _leader(running: Cluster) -> Service:
    pids = [service.pid for service in running.services if service.running]
    pid = await until(lambda: running.database.pool.fetchval(HOLDER, pids), within=15)
    return next(service for service in running.services if service.pid == pid)


def _kill_all_of(service: Service) -> None:
    """The whole node is lost: the service and its children."""
    os.killpg(service.pid, signal.SIGKILL)


async def _states(database: TestDatabase, **wanted: int) -> bool:
    try:
        rows = await database.pool.fetch(
            "SELECT state::text, count(*) AS n FROM oban_jobs WHERE queue = 'default' GROUP BY state"
        )
    except LOST:
        return False
    return {row["state"]: row["n"] for row in rows} == wanted


async def _answers(database: TestDatabase) -> bool:
    try:
        return bool(await database.pool.fetchval("SELECT true"))
    except (*LOST, asyncpg.PostgresError):
        return False
