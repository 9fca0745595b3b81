"""A real worker with the handlers that use what it offers, and what became of its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.conftest import TestDatabase
from tests.processes import Cluster, Service, cluster
from tests.waiting import until

COMMAND = (
    "quarterjack_worker",
    "--import",
    "tests.handlers",
    "--import",
    "tests.process_handlers",
    "--import",
    "tests.completing_handlers",
    "--queue",
    "default=10",
    "--processes",
    "2",
    "--grace",
    "1",
)
TAKEN = """
UPDATE oban_jobs
SET attempted_at = attempted_at + interval '1 us', attempted_by = ARRAY['other', gen_random_uuid()::text, 'x']
"""
"""Another worker takes what runs."""


@asynccontextmanager
async def working(database: TestDatabase, **env: str) -> AsyncIterator[tuple[Cluster, Service]]:
    async with cluster(database) as running:
        worker = await running.start("worker-1", *COMMAND, env=env)
        yield running, worker


async def ended(database: TestDatabase) -> list[asyncpg.Record]:
    """All jobs in their order, once each has ended or waits for its next attempt."""
    await until(
        lambda: database.pool.fetchval(
            "SELECT bool_and(state NOT IN ('available', 'executing')) FROM oban_jobs"
        ),
        within=30,
    )
    return await database.pool.fetch(
        """
        SELECT id, worker, state::text, attempt, meta, errors[1] ->> 'error' AS error, cardinality(errors) AS failures,
          extract(epoch FROM scheduled_at - timezone('UTC', now())) AS waits
        FROM oban_jobs
        ORDER BY id
        """
    )


async def said(service: Service, text: str) -> bool:
    return any(text in line for line in service.lines)
