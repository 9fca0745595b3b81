"""A worker of ours that another Oban works beside."""

import quarterjack
from tests.conftest import TestDatabase
from tests.processes import Cluster, Service
from tests.waiting import until


async def worker_on(running: Cluster) -> Service:
    worker = await running.worker(import_="tests.jobs", queues="default=5")
    await until(running.listening)
    return worker


async def run_long(database: TestDatabase) -> int:
    made = await quarterjack.enqueue(database.pool, "wait_for_release")
    await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))
    assert made.id is not None
    return made.id
