"""A real worker with the jobs of `tests.jobs`, and what became of its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.conftest import TestDatabase
from tests.processes import Cluster, Service, cluster

ENDED = (
    "SELECT bool_and(state IN ('completed', 'cancelled', 'discarded', 'retryable')) FROM oban_jobs"
)


@asynccontextmanager
async def working(database: TestDatabase) -> AsyncIterator[tuple[Cluster, Service]]:
    async with cluster(database) as running:
        yield running, await running.worker("worker-1", import_="tests.jobs", queues="default=20")


async def by_name(database: TestDatabase) -> dict[str, asyncpg.Record]:
    """All jobs, each under the name of its handler."""
    rows = await database.pool.fetch(
        """
        SELECT worker, state::text, attempt, max_attempts, meta, scheduled_at > timezone('UTC', now()) AS later,
          errors[cardinality(errors)] ->> 'error' AS error, cardinality(errors) AS failures
        FROM oban_jobs
        """
    )
    return {row["worker"]: row for row in rows}


async def have_ended(database: TestDatabase) -> Any:
    return await database.pool.fetchval(ENDED)
