"""A run ends when its schedule or somebody else says so."""

from typing import Any

import quarterjack
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.waiting import until

RUNNING = "SELECT sum(running) FROM qj_producers"


async def test_a_run_ends_at_its_schedules_timeout(database: TestDatabase) -> None:
    async with cluster(database) as running:
        await running.worker(import_="tests.jobs", queues="default=5")
        await quarterjack.enqueue(
            database.pool, "wait_for_release", max_attempts=1, meta={"timeout": 0.2}
        )
        await quarterjack.enqueue(database.pool, "count", meta={"timeout": "soon"})
        await until(
            lambda: _states(
                database, "SELECT bool_and(state IN ('completed', 'discarded')) FROM oban_jobs"
            )
        )

        rows = await database.pool.fetch(
            "SELECT state::text, errors[1] ->> 'error' AS error FROM oban_jobs ORDER BY id"
        )

    assert [row["state"] for row in rows] == ["discarded", "completed"]
    assert "it ran longer than 0:00:00.200000" in rows[0]["error"]


async def test_a_run_whose_job_was_cancelled_without_a_word_is_stopped(
    database: TestDatabase,
) -> None:
    async with cluster(database) as running:
        worker = await running.worker(import_="tests.jobs", queues="default=5")
        await quarterjack.enqueue(database.pool, "wait_for_release")
        await until(lambda: _states(database, f"SELECT ({RUNNING}) = 1"))
        await database.pool.execute(
            "UPDATE oban_jobs SET state = 'cancelled', cancelled_at = timezone('UTC', now())"
        )

        await until(lambda: _states(database, f"SELECT ({RUNNING}) = 0"), within=15)

        assert worker.running
    assert await database.pool.fetchval("SELECT state::text FROM oban_jobs") == "cancelled"


async def _states(database: TestDatabase, statement: str) -> Any:
    return await database.pool.fetchval(statement)
