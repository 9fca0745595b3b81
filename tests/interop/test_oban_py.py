"""The real oban-py on the same tables: each inserts for the other, and reads what the other made of it."""

import time
from typing import Any

import pytest

import quarterjack
from quarterjack import JobState, NewJob
from quarterjack.queries import jobs
from tests.conftest import TestDatabase
from tests.flows import settle
from tests.interop.oban_py import SERVING, oban_py
from tests.interop.working import has_state, working
from tests.processes import cluster
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres
FOREIGN = """
INSERT INTO oban_jobs (worker, queue, args, meta, scheduled_at, attempt, max_attempts) VALUES
  ('Elixir.Nobody', $1, '[1]', '{}', timezone('UTC', now()), 0, 20),
  ('count', $1, '"text"', '{}', timezone('UTC', now()), 0, 20),
  ('oban_node.Echo', $1, '{}', '[]', timezone('UTC', now()), 0, 20),
  ('x', $1, '{}', '{"snoozed": "often"}', '0001-01-01', 0, 20),
  ('spent', $1, '{}', '{}', timezone('UTC', now()), 1, 1)
"""


async def test_oban_py_runs_a_job_of_ours_at_once(shared: TestDatabase) -> None:
    async with oban_py(shared, **SERVING) as node:
        began = time.monotonic()
        made = await quarterjack.enqueue(
            shared.pool, "oban_node.Echo", {"to": "ana"}, queue="py", tags=["a"], meta={"b": 1}
        )
        id = made.id or 0
        await until(lambda: has_state(shared, id, "completed"))
        took = time.monotonic() - began

        seen = await node.ask("get", id=id)

    assert took < 1.0
    assert (seen["args"], seen["tags"], seen["meta"]) == ({"to": "ana"}, ["a"], {"b": 1})
    job = await jobs.find(shared.pool, id)
    assert job is not None
    assert (job.state, job.attempt, job.attempted_by[0]) == (JobState.COMPLETED, 1, "py-1")


async def test_oban_py_runs_each_of_many_and_of_one_transaction(shared: TestDatabase) -> None:
    async with oban_py(shared, **SERVING):
        await quarterjack.enqueue_many(
            shared.pool,
            [NewJob(worker="oban_node.Echo", queue="py", args={"n": n}) for n in range(50)],
        )
        async with shared.pool.acquire() as connection, connection.transaction():
            await quarterjack.enqueue(connection, "oban_node.Echo", queue="py")

        await until(
            lambda: shared.pool.fetchval(
                "SELECT count(*) = 51 FROM oban_jobs WHERE state = 'completed'"
            )
        )


async def test_a_job_of_ours_waits_for_one_that_oban_py_runs(shared: TestDatabase) -> None:
    first = await quarterjack.enqueue(shared.pool, "oban_node.Echo", queue="py")
    second = await quarterjack.enqueue(
        shared.pool, "oban_node.Echo", queue="py", after=[first.id or 0]
    )
    third = await quarterjack.enqueue(
        shared.pool, "oban_node.Echo", queue="nobody", after=[second.id or 0]
    )
    async with oban_py(shared, **SERVING) as node:
        await until(lambda: has_state(shared, first.id or 0, "completed"))
        seen = await node.ask("get", id=third.id)
        await settle(shared.pool)
        await jobs.ring(shared.pool, ["py"])
        await until(lambda: has_state(shared, second.id or 0, "completed"))
        await settle(shared.pool)

    assert seen["state"] == "suspended"
    assert await has_state(shared, third.id or 0, "available")


async def test_a_job_that_failed_there_is_read_here(shared: TestDatabase) -> None:
    made = await quarterjack.enqueue(shared.pool, "oban_node.Fail", queue="py", max_attempts=1)
    async with oban_py(shared, **SERVING | {"stager": {"interval": 0.1}}):
        await until(lambda: has_state(shared, made.id or 0, "discarded"))

    job = await jobs.find(shared.pool, made.id or 0)
    assert job is not None
    [error] = job.errors
    assert error["attempt"] == 1
    assert "ValueError: failed with {}" in error["error"]


async def test_we_run_jobs_of_oban_py(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):
        id = await node.ask("insert", worker="count", queue="default", args={"n": 3})
        later = "2001-01-01T00:00:00+00:00"
        due = await node.ask("insert", worker="count", queue="default", scheduled_at=later)
        await until(lambda: has_state(shared, id, "completed"))
        assert await has_state(shared, due, "scheduled")

        seen = await node.ask("get", id=id)

    assert (seen["state"], seen["attempt"], seen["args"]) == ("completed", 1, {"n": 3})
    assert seen["attempted_by"][0] == "worker-1"
    assert seen["attempted_at"] <= seen["completed_at"]


@pytest.mark.parametrize(
    ("worker", "state", "at"),
    [
        ("snooze", "scheduled", "scheduled_at"),
        ("cancel", "cancelled", "cancelled_at"),
        ("discard", "discarded", "discarded_at"),
        ("fail", "retryable", "scheduled_at"),
    ],
)
async def test_each_outcome_of_ours_is_read_there(
    shared: TestDatabase, worker: str, state: str, at: str
) -> None:
    async with oban_py(shared) as node, working(shared):
        id = await node.ask("insert", worker=worker, queue="default")
        await until(lambda: has_state(shared, id, state))

        seen = await node.ask("get", id=id)

    assert seen["state"] == state
    assert seen[at] is not None
    assert seen["meta"].get("snoozed") == (1 if worker == "snooze" else None)
    for error in seen["errors"]:
        assert error["attempt"] == 1
        assert error["at"].endswith("Z")
        assert isinstance(error["error"], str)


async def test_foreign_rows_stop_neither(shared: TestDatabase) -> None:
    async with oban_py(shared, **SERVING), working(shared):
        for queue in ("default", "py"):
            await shared.pool.execute(FOREIGN, queue)
        made = await quarterjack.enqueue_many(
            shared.pool,
            [NewJob(worker="count"), NewJob(worker="oban_node.Echo", queue="py")],
        )

        for each in made:
            id = each.id or 0
            await until(lambda id=id: has_state(shared, id, "completed"))  # type: ignore[misc]


async def test_its_leader_beside_ours_keeps_its_own_row(shared: TestDatabase) -> None:
    serving = SERVING | {"leadership": True, "stager": {"interval": 0.1}}
    async with cluster(shared) as running, oban_py(shared, **serving) as node:
        await running.scheduler()
        await until(lambda: shared.pool.fetchval("SELECT term > 0 FROM qj_lease"))

        async def leads() -> bool:
            return bool(await node.ask("leads"))

        await until(leads)
        made = await quarterjack.enqueue(
            shared.pool, "oban_node.Echo", queue="py", scheduled_at=await _now(shared)
        )
        await until(lambda: has_state(shared, made.id or 0, "completed"))

    assert await shared.pool.fetchval("SELECT array_agg(node) FROM oban_leaders") == ["py-1"]
    assert await shared.pool.fetchval("SELECT count(*) FROM oban_peers") == 0


async def _now(database: TestDatabase) -> Any:
    return await database.pool.fetchval("SELECT clock_timestamp()")
