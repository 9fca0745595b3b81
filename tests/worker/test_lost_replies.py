"""A network that loses replies costs a worker time, and no job its attempt or its outcome."""

from dataclasses import replace

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.proxy import Proxy, proxied
from tests.waiting import until

JOBS, CUTS = 300, 3


async def test_claims_and_acks_survive_lost_replies(database: TestDatabase) -> None:
    async with proxied(database.address) as (proxy, through):
        behind = replace(database, url=through.url, address=through)
        async with cluster(behind) as running:
            await running.worker(import_="tests.jobs", queues="default=5")
            await until(lambda: database.pool.fetchval("SELECT count(*) FROM oban_producers"))
            made = await _work_until_cut(database, proxy, "in_thread")
            proxy.cut_after = None

            await until(
                lambda: database.pool.fetchval(
                    "SELECT bool_and(state = 'completed') FROM oban_jobs"
                ),
                within=30,
            )

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == made
    assert await database.pool.fetchval("SELECT bool_and(attempt = 1) FROM oban_jobs")
    assert await database.pool.fetchval("SELECT bool_and(cardinality(errors) = 0) FROM oban_jobs")


async def test_children_are_enqueued_once_through_lost_replies(database: TestDatabase) -> None:
    async with proxied(database.address) as (proxy, through):
        behind = replace(database, url=through.url, address=through)
        async with cluster(behind) as running:
            await running.worker(import_="tests.completing_handlers", queues="default=5")
            await until(lambda: database.pool.fetchval("SELECT count(*) FROM oban_producers"))
            made = await _work_until_cut(database, proxy, "fan_out")
            proxy.cut_after = None

            await until(
                lambda: database.pool.fetchval(
                    "SELECT bool_and(state = 'completed') FROM oban_jobs WHERE worker = 'fan_out'"
                ),
                within=30,
            )

    children = await database.pool.fetch(
        "SELECT args -> 'n' AS parent, count(*) FROM oban_jobs WHERE worker = 'child' GROUP BY 1"
    )
    assert len(children) == made
    assert {row["count"] for row in children} == {2}


async def _work_until_cut(database: TestDatabase, proxy: Proxy, worker: str) -> int:
    """Have jobs run until some replies were cut off; how many were made."""
    proxy.cut_after, made = 31, 0
    while proxy.cuts < CUTS:
        await quarterjack.enqueue_many(
            database.pool, [NewJob(worker=worker, args={"n": made + n}) for n in range(JOBS)]
        )
        made += JOBS
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) < $1 FROM oban_jobs WHERE worker = $2 AND state <> 'completed'",
                JOBS // 2,
                worker,
            ),
            within=30,
        )
    return made
