"""A worker of ours beside the real oban-py, and the states of jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conftest import TestDatabase
from tests.processes import Service, cluster
from tests.waiting import until


@asynccontextmanager
async def working(database: TestDatabase) -> AsyncIterator[Service]:
    async with cluster(database) as running:
        worker = await running.worker("worker-1", import_="tests.jobs", queues="default=5,other=2")
        await until(running.listening)
        yield worker


async def has_state(database: TestDatabase, id: int, *wanted: str) -> bool:
    state = await database.pool.fetchval("SELECT state::text FROM oban_jobs WHERE id = $1", id)
    return state in wanted
