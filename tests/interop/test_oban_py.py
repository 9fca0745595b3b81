"""The real oban-py on the same tables: each inserts for the other, reads and steers the other's jobs."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import quarterjack
from quarterjack import JobState, NewJob
from quarterjack.queries import jobs, runs
from tests.conftest import TestDatabase
from tests.flows import settle
from tests.interop.oban_py import SERVING, oban_py
from tests.processes import Service, cluster
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


@asynccontextmanager
async def working(database: TestDatabase) -> AsyncIterator[Service]:
    async with cluster(database) as running:
        worker = await running.worker("worker-1", import_="tests.jobs", queues="default=5,other=2")
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = 2 FROM oban_producers WHERE node = 'worker-1'"
            )
        )
        yield worker


async def _state(database: TestDatabase, id: int, *wanted: str) -> bool:
    state = await database.pool.fetchval("SELECT state::text FROM oban_jobs WHERE id = $1", id)
    return state in wanted


async def _steered(database: TestDatabase, queue: str) -> dict[str, Any]:
    row = await database.row("SELECT paused, local_limit FROM qj_producers WHERE queue = $1", queue)
    return dict(row)


async def test_oban_py_runs_a_job_of_ours_at_once(shared: TestDatabase) -> None:
    async with oban_py(shared, **SERVING) as node:
        began = time.monotonic()
        made = await quarterjack.enqueue(
            shared.pool, "oban_node.Echo", {"to": "ana"}, queue="py", tags=["a"], meta={"b": 1}
        )
        id = made.id or 0
        await until(lambda: _state(shared, id, "completed"))
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
        await until(lambda: _state(shared, first.id or 0, "completed"))
        seen = await node.ask("get", id=third.id)
        await settle(shared.pool)
        await jobs.ring(shared.pool, ["py"])
        await until(lambda: _state(shared, second.id or 0, "completed"))
        await settle(shared.pool)

    assert seen["state"] == "suspended"
    assert await _state(shared, third.id or 0, "available")


async def test_a_job_that_failed_there_is_read_here(shared: TestDatabase) -> None:
    made = await quarterjack.enqueue(shared.pool, "oban_node.Fail", queue="py", max_attempts=1)
    async with oban_py(shared, **SERVING | {"stager": {"interval": 0.1}}):
        await until(lambda: _state(shared, made.id or 0, "discarded"))

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
        await until(lambda: _state(shared, id, "completed"))
        assert await _state(shared, due, "scheduled")

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
        await until(lambda: _state(shared, id, state))

        seen = await node.ask("get", id=id)

    assert seen["state"] == state
    assert seen[at] is not None
    assert seen["meta"].get("snoozed") == (1 if worker == "snooze" else None)
    for error in seen["errors"]:
        assert error["attempt"] == 1
        assert error["at"].endswith("Z")
        assert isinstance(error["error"], str)


async def test_its_retry_of_our_discarded_job_runs(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):
        id = await node.ask("insert", worker="discard", queue="default", max_attempts=1)
        await until(lambda: _state(shared, id, "discarded"))

        await node.ask("retry_job", job=id)
        await until(
            lambda: shared.pool.fetchval(
                "SELECT attempt = 2 AND max_attempts = 2 AND state = 'discarded' FROM oban_jobs"
            )
        )


async def test_its_signals_steer_our_queues(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):

        async def settled(queue: str, paused: bool, limit: int) -> bool:
            return await _steered(shared, queue) == {"paused": paused, "local_limit": limit}

        await node.ask("pause_queue", queue="default", node="another")
        await node.ask("pause_queue", queue="default")
        await until(lambda: settled("default", True, 5))
        await node.ask("scale_queue", queue="default", limit=2)
        await until(lambda: settled("default", True, 2))
        assert await settled("other", False, 2)

        await node.ask("resume_queue", queue="default", node="worker-1")
        await until(lambda: settled("default", False, 2))
        await node.ask("pause_all_queues")
        await until(lambda: settled("other", True, 2))
        await node.ask("resume_all_queues")
        await until(lambda: settled("other", False, 2))


async def test_our_signals_steer_its_queues(shared: TestDatabase) -> None:
    async with oban_py(shared, **SERVING) as node:

        async def stands(paused: bool, limit: int) -> bool:
            check = await node.ask("check", queue="py")
            return bool((check["paused"], check["limit"]) == (paused, limit))

        async def signal(**message: object) -> None:
            await runs.signal(shared.pool, json.dumps(message))

        await signal(action="pause", queue="py", ident="any")
        await until(lambda: stands(True, 5))
        await signal(action="resume", queue="py", ident="Oban.another")
        await signal(action="scale", queue="py", limit=2, ident="Oban.py-1")
        await until(lambda: stands(True, 2))
        made = await quarterjack.enqueue(shared.pool, "oban_node.Echo", queue="py")
        await signal(action="resume", queue="*", ident="any")
        await until(lambda: stands(False, 2))
        await until(lambda: _state(shared, made.id or 0, "completed"))


async def test_it_stops_and_starts_our_queues_and_no_others(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):
        await node.ask("stop_queue", queue="default")
        await until(lambda: shared.pool.fetchval("SELECT bool_or(paused) FROM qj_producers"))
        id = await node.ask("insert", worker="count", queue="default")
        elsewhere = await node.ask("insert", worker="count", queue="elixir_only")
        await node.ask("resume_queue", queue="default")
        await node.ask("scale_queue", queue="default", limit=2)
        await until(
            lambda: shared.pool.fetchval("SELECT bool_or(local_limit = 2) FROM qj_producers")
        )
        other = await node.ask("insert", worker="count", queue="other")
        await until(lambda: _state(shared, other, "completed"))
        assert await _state(shared, id, "available")

        start = {"action": "start", "limit": 3, "paused": False}
        for queue, ident in (("elixir_only", "any"), ("default", "Oban.worker-1")):
            await node.ask("signal", payload=start | {"queue": queue, "ident": ident})
        await until(lambda: _state(shared, id, "completed"))

        await until(lambda: shared.pool.fetchval("SELECT NOT bool_or(paused) FROM qj_producers"))
        assert (await _steered(shared, "default"))["local_limit"] == 3
        ran = await jobs.find(shared.pool, elsewhere)
        assert ran is not None
        assert ran.attempted_by[:1] != ["worker-1"]  # oban-py starts what it is told to start


async def test_it_cancels_our_running_job(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):
        id = await node.ask("insert", worker="wait_for_release", queue="default")
        await until(lambda: _state(shared, id, "executing"))

        await node.ask("cancel_job", job=id)
        await until(lambda: _state(shared, id, "cancelled"))


async def test_we_cancel_a_job_that_it_runs(shared: TestDatabase) -> None:
    async with oban_py(shared, **SERVING) as node:
        made = await quarterjack.enqueue(shared.pool, "oban_node.Wait", queue="py")
        id = made.id or 0
        await until(lambda: _state(shared, id, "executing"))

        async def running() -> bool:
            return bool((await node.ask("check", queue="py"))["running"] == [id])

        await until(running)
        await jobs.stop(shared.pool, [id])
        await until(lambda: _state(shared, id, "completed"))


async def test_its_rescue_of_our_long_job_neither_loses_nor_completes_it_twice(
    shared: TestDatabase,
) -> None:
    async with oban_py(shared) as node, working(shared) as worker:
        id = await node.ask("insert", worker="wait_for_release", queue="default")
        await until(lambda: _state(shared, id, "executing"))

        await node.ask("rescue", after=0.0)
        await until(
            lambda: shared.pool.fetchval(
                "SELECT attempt = 2 AND state = 'executing' FROM oban_jobs"
            )
        )
        await shared.pool.execute("CREATE TABLE released ()")
        await until(lambda: _state(shared, id, "completed"))

        job = await jobs.find(shared.pool, id)
        assert job is not None
        assert (job.attempt, job.errors, job.meta.get("rescued")) == (2, [], 1)
        assert worker.running


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
            await until(lambda id=id: _state(shared, id, "completed"))  # type: ignore[misc]


async def test_garbage_on_every_channel_stops_nobody(shared: TestDatabase) -> None:
    async with working(shared) as worker:
        for channel in ("insert", "signal", "cronitor", "leader", "sonar", "gossip"):
            for payload in (
                "",
                "garbage",
                "Z:garbage",
                "[1]",
                "7",
                '{"queue": {}}',
                '{"limit": 1e99}',
            ):
                await shared.pool.execute(
                    "SELECT pg_notify(current_schema() || '.oban_' || $1, $2)", channel, payload
                )
        for message in (
            {"action": "scale", "queue": "default", "limit": "3"},
            {"action": "scale", "queue": "default", "limit": True},
            {"action": "pkill", "job_id": "1"},
            {"action": ["pause"], "queue": ["default"], "ident": 7},
            {"action": "start", "queue": "default", "limit": -1, "paused": "no"},
        ):
            await shared.pool.execute(
                "SELECT pg_notify(current_schema() || '.oban_signal', $1)", json.dumps(message)
            )
        made = await quarterjack.enqueue(shared.pool, "count")

        await until(lambda: _state(shared, made.id or 0, "completed"))
        assert (await _steered(shared, "default"))["local_limit"] == 5
        assert worker.running


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
        await until(lambda: _state(shared, made.id or 0, "completed"))

    assert await shared.pool.fetchval("SELECT array_agg(node) FROM oban_leaders") == ["py-1"]
    assert await shared.pool.fetchval("SELECT count(*) FROM oban_peers") == 0


async def _now(database: TestDatabase) -> Any:
    return await database.pool.fetchval("SELECT clock_timestamp()")
