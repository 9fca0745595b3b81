"""A network that loses replies costs a worker time, and no job its attempt or its outcome."""

from dataclasses import replace

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.proxy import proxied
from tests.waiting import until

JOBS = 1_500


async def test_claims_and_acks_survive_lost_replies(database: TestDatabase) -> None:
    async with proxied(database.address) as (proxy, through):
        behind = replace(database, url=through.url, address=through)
        async with cluster(behind) as running:
            await running.worker(import_="tests.jobs", queues="default=5")
            await until(lambda: database.pool.fetchval("SELECT count(*) FROM oban_producers"))
            proxy.cut_after = 31
            await quarterjack.enqueue_many(
                database.pool, [NewJob(worker="in_thread", args={"n": n}) for n in range(JOBS)]
            )
            await until(
                lambda: database.pool.fetchval(
                    "SELECT count(*) > $1 FROM oban_jobs WHERE state = 'completed'", JOBS // 2
                ),
                within=30,
            )
            cuts, proxy.cut_after = proxy.cuts, None

            await until(
                lambda: database.pool.fetchval(
                    "SELECT bool_and(state = 'completed') FROM oban_jobs"
                ),
                within=30,
            )

    assert cuts > 2
    assert await database.pool.fetchval("SELECT bool_and(attempt = 1) FROM oban_jobs")
    assert await database.pool.fetchval("SELECT bool_and(cardinality(errors) = 0) FROM oban_jobs")


async def test_children_are_enqueued_once_through_lost_replies(database: TestDatabase) -> None:
    async with proxied(database.address) as (proxy, through):
        behind = replace(database, url=through.url, address=through)
        async with cluster(behind) as running:
            await running.worker(import_="tests.handlers", queues="default=5")
            await until(lambda: database.pool.fetchval("SELECT count(*) FROM oban_producers"))
            proxy.cut_after = 31
            await quarterjack.enqueue_many(
                database.pool, [NewJob(worker="fan_out", args={"n": n}) for n in range(JOBS)]
            )
            await until(
                lambda: database.pool.fetchval(
                    "SELECT count(*) > $1 FROM oban_jobs WHERE worker = 'child'", JOBS
                ),
                within=30,
            )
            cuts, proxy.cut_after = proxy.cuts, None

            await until(
                lambda: database.pool.fetchval(
                    "SELECT bool_and(state = 'completed') FROM oban_jobs WHERE worker = 'fan_out'"
                ),
                within=30,
            )

    children = await database.pool.fetch(
        "SELECT args -> 'n' AS parent, count(*) FROM oban_jobs WHERE worker = 'child' GROUP BY 1"
    )
    assert cuts > 2
    assert len(children) == JOBS
    assert {row["count"] for row in children} == {2}
