"""The scenarios of the specification, with its own names and statements, on real processes."""

import asyncio
import json
from datetime import timedelta

import quarterjack
from quarterjack import Unique
from tests.conftest import TestDatabase
from tests.processes import cluster, psql_path
from tests.waiting import until

WORKER = "ServiceRadarWebNG.Jobs.RefreshTraceSummariesWorker"
COUNT = "SELECT count(*) FROM oban_jobs WHERE worker = 'ServiceRadarWebNG.Jobs.RefreshTraceSummariesWorker';"
EVERY_SECOND = "UPDATE qj_schedules SET cron = '* * * * * *', uniqueness = NULL WHERE name = 'refresh_trace_summaries'"
LEADER = """
SELECT p.node FROM qj_lease AS l JOIN qj_peers AS p ON p.uuid = l.holder
WHERE l.expires_at > clock_timestamp()
"""


async def test_oban_tables_exist_after_migration(database: TestDatabase) -> None:
    psql = await asyncio.create_subprocess_exec(
        psql_path(database), database.url, "-c", r"\dt oban_jobs", stdout=asyncio.subprocess.PIPE
    )
    shown, _ = await psql.communicate()

    assert b"oban_jobs" in shown
    assert psql.returncode == 0


async def test_single_scheduler_is_elected_across_multiple_nodes(database: TestDatabase) -> None:
    await database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron, overlap) VALUES ('tick', 'w', '* * * * * *', 'allow')"
    )
    async with cluster(database) as running:
        await running.scheduler("scheduler-1")
        await running.scheduler("scheduler-2")
        await until(lambda: _count(database, "SELECT count(*) = 2 FROM qj_peers"))
        await until(lambda: database.pool.fetchval(LEADER))
        await until(lambda: _count(database, "SELECT count(*) >= 3 FROM qj_ticks"), within=15)

        leaders = await database.pool.fetch(LEADER)
        holders = await database.pool.fetch(
            "SELECT DISTINCT holder FROM qj_ticks WHERE outcome = 'enqueued'"
        )
        terms = await database.pool.fetchval("SELECT count(*) FROM qj_terms")

    assert len(leaders) == 1
    assert len(holders) == 1
    assert terms == 1


async def test_uniqueness_prevents_duplicate_refresh_jobs(database: TestDatabase) -> None:
    async with cluster(database) as running:
        await running.worker()
        stored = await until(
            lambda: database.pool.fetchval(
                "SELECT uniqueness FROM qj_job_types WHERE worker = $1", WORKER
            )
        )
        unique = Unique.from_json(stored if isinstance(stored, dict) else json.loads(stored))

        first, second = await asyncio.gather(
            *(
                quarterjack.enqueue(database.pool, WORKER, queue="nobody_works_here", unique=unique)
                for _ in range(2)
            )
        )

    assert sorted([first.conflict, second.conflict]) == [False, True]
    assert await database.pool.fetchval(COUNT) == 1


async def test_two_cron_attempts_within_the_window_enqueue_one_job(database: TestDatabase) -> None:
    await database.pool.execute(
        """
        INSERT INTO qj_schedules (name, worker, cron, overlap, uniqueness)
        VALUES ('a', $1, '* * * * * *', 'allow', $2), ('b', $1, '* * * * * *', 'allow', $2)
        """,
        WORKER,
        Unique(period=timedelta(seconds=300)).to_json(),
    )
    async with cluster(database) as running:
        await running.scheduler()
        await until(
            lambda: _count(
                database,
                "SELECT count(*) >= 4 FROM qj_ticks WHERE outcome LIKE 'skipped%' OR outcome = 'enqueued'",
            ),
            within=15,
        )

    assert await database.pool.fetchval(COUNT) == 1


async def test_refresh_worker_is_enqueued_on_schedule(database: TestDatabase) -> None:
    async with cluster(database) as running:
        await running.scheduler("scheduler-1")
        await running.scheduler("scheduler-2")
        await running.worker()
        cron = await until(
            lambda: database.pool.fetchval(
                "SELECT cron FROM qj_schedules WHERE name = 'refresh_trace_summaries'"
            )
        )
        await database.pool.execute(EVERY_SECOND)

        counted = await until(lambda: database.pool.fetchval(COUNT), within=15)

    assert cron == "*/2 * * * *"
    assert counted > 0


async def test_refresh_worker_executes_concurrent_refresh(database: TestDatabase) -> None:
    await database.pool.execute("REFRESH MATERIALIZED VIEW otel_trace_summaries")
    async with cluster(database) as running:
        await running.worker()
        async with database.pool.acquire() as blocker, blocker.transaction():
            await blocker.execute("LOCK TABLE otel_traces IN ACCESS EXCLUSIVE MODE")
            await quarterjack.enqueue(database.pool, WORKER, queue="maintenance")

            seen = await until(
                lambda: database.pool.fetchval(
                    "SELECT query FROM pg_stat_activity WHERE query LIKE '%REFRESH%' AND pid <> pg_backend_pid()"
                    " AND datname = current_database()"
                )
            )

        await until(
            lambda: _count(database, "SELECT bool_and(state = 'completed') FROM oban_jobs"),
            within=15,
        )

    assert "REFRESH MATERIALIZED VIEW CONCURRENTLY otel_trace_summaries" in seen


async def test_the_refreshed_view_holds_the_traces_of_the_system_itself(
    database: TestDatabase,
) -> None:
    async with cluster(database) as running:
        await running.scheduler()
        await running.worker()
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM qj_schedules"))
        await database.pool.execute(EVERY_SECOND)
        await until(
            lambda: _count(database, "SELECT count(*) > 0 FROM oban_jobs WHERE state = 'completed'")
        )

        summary = await until(
            lambda: database.pool.fetchrow(
                """
                SELECT v.root_span_name, v.service_set, v.span_count
                FROM otel_trace_summaries AS v
                JOIN oban_jobs AS j ON split_part(j.meta ->> 'traceparent', '-', 2) = v.trace_id
                WHERE v.span_count >= 4
                """
            ),
            within=20,
        )

    assert summary is not None
    assert summary["root_span_name"] == "tick refresh_trace_summaries"
    assert summary["service_set"] == ["quarterjack-scheduler", "quarterjack-worker"]


async def _count(database: TestDatabase, statement: str) -> bool:
    return bool(await database.pool.fetchval(statement))
