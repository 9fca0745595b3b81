"""A leader dies between the end of a job and what it owes to those that wait for it."""

import asyncio
import signal

import pytest

import quarterjack
from quarterjack import NewJob, Workflow
from tests.conftest import TestDatabase
from tests.flows import end, states
from tests.processes import Cluster, Service, cluster
from tests.shared.test_flows_at_once import blocked, held
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(60)]
EARLY = """
SELECT p.id, c.id
FROM qj_edges AS e
JOIN oban_jobs AS p ON p.id = e.parent
JOIN oban_jobs AS c ON c.id = e.child
WHERE c.attempted_at < p.completed_at
"""
MARKED = "SELECT count(*) = 2 FROM oban_jobs WHERE meta ? 'qj_followed'"
LEADER = "SELECT p.node FROM qj_lease AS l JOIN qj_peers AS p ON p.uuid = l.holder"


async def leader(database: TestDatabase, running: Cluster) -> Service:
    """Start two replicas; the one that leads, once the other is there as well."""
    services = [await running.scheduler(f"scheduler-{n}") for n in (1, 2)]
    await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM qj_peers"))
    node = await until(lambda: database.pool.fetchval(LEADER))
    return next(service for service in services if service.name == node)


async def freed(database: TestDatabase, id: int | None) -> None:
    async def available() -> bool:
        return await states(database.pool, id) == ["available"]

    await until(available)


async def test_a_leader_that_is_killed_before_it_looks(database: TestDatabase) -> None:
    parent = await quarterjack.enqueue(database.pool, "w", queue="unworked")
    child = await quarterjack.enqueue(database.pool, "w", queue="unworked", after=[parent.id or 0])
    async with cluster(database) as running:
        leading = await leader(database, running)
        leading.send(signal.SIGSTOP)
        await end(database.pool, parent.id or 0)
        await leading.kill()

        await freed(database, child.id)


async def test_a_leader_that_is_killed_while_it_is_at_it(database: TestDatabase) -> None:
    first, second = [await quarterjack.enqueue(database.pool, "w", queue="u") for _ in range(2)]
    ids = [first.id or 0, second.id or 0]
    child = await quarterjack.enqueue(database.pool, "w", queue="u", after=ids)
    async with cluster(database) as running:
        leading = await leader(database, running)
        await until(lambda: database.pool.fetchval(MARKED))
        async with held(database, "SELECT FROM qj_edges WHERE parent = $1 FOR UPDATE", ids[0]):
            await end(database.pool, ids[0])
            await blocked(database, 1)
            await leading.kill()
            await end(database.pool, ids[1])
            await blocked(database, 2)

        await freed(database, child.id)


async def test_a_workflow_ends_although_leaders_and_workers_do_not(database: TestDatabase) -> None:
    """Forty layers of five, each after all of the layer before; whoever works is killed three times."""
    flow = Workflow("layers")
    for layer in range(40):
        above = [f"{layer - 1}-{n}" for n in range(5)] if layer else []
        for n in range(5):
            flow.add(f"{layer}-{n}", NewJob(worker="in_thread", args={"n": n}), after=above)
    async with cluster(database) as running:
        leading = await leader(database, running)
        worker = await running.worker("worker-0", import_="tests.jobs", queues="default=5")
        ids = await flow.enqueue(database.pool)
        for number in (1, 2, 3):
            await until(lambda done=number * 40: _completed(database, done), within=30)  # type: ignore[misc]
            await asyncio.gather(leading.kill(), worker.kill())
            worker = await running.worker(
                f"worker-{number}", import_="tests.jobs", queues="default=5"
            )
            await running.scheduler(f"scheduler-{number + 2}")
            node = await until(lambda gone=leading.name: _led_by_another(database, gone))  # type: ignore[misc]
            leading = next(service for service in running.services if service.name == node)

        await until(lambda: _completed(database, len(ids)), within=30)

    early = await database.pool.fetch(EARLY)
    assert early == []


async def _completed(database: TestDatabase, number: int) -> bool:
    done: int = await database.pool.fetchval(
        "SELECT count(*) FROM oban_jobs WHERE state = 'completed'"
    )
    return done >= number


async def _led_by_another(database: TestDatabase, gone: str) -> str | None:
    node: str | None = await database.pool.fetchval(LEADER)
    return node if node != gone else None
