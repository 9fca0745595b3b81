"""The real oban-py on the same tables: each steers the queues and the jobs of the other."""

import json
from typing import Any

import pytest

import quarterjack
from quarterjack import channels
from quarterjack.queries import jobs, notifications, queues
from quarterjack.queries.queues import ALL, Change
from quarterjack_admin.pages.queues import Wish, signals
from tests.conftest import TestDatabase
from tests.interop.met import Met
from tests.interop.oban_py import SERVING, oban_py
from tests.interop.working import has_state, working
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres


async def _steered(database: TestDatabase, queue: str) -> dict[str, Any]:
    row = await database.row("SELECT paused, local_limit FROM qj_producers WHERE queue = $1", queue)
    return dict(row)


async def test_its_retry_of_our_discarded_job_runs(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):
        id = await node.ask("insert", worker="discard", queue="default", max_attempts=1)
        await until(lambda: has_state(shared, id, "discarded"))

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
            said = [(channels.SIGNAL, json.dumps(message))]
            await notifications.send_all(shared.pool, said)

        await signal(action="pause", queue="py", ident="any")
        await until(lambda: stands(True, 5))
        await signal(action="resume", queue="py", ident="Oban.another")
        await signal(action="scale", queue="py", limit=2, ident="Oban.py-1")
        await until(lambda: stands(True, 2))
        made = await quarterjack.enqueue(shared.pool, "oban_node.Echo", queue="py")
        await signal(action="resume", queue="*", ident="any")
        await until(lambda: stands(False, 2))
        await until(lambda: has_state(shared, made.id or 0, "completed"))


async def test_the_page_of_queues_steers_its_queues_and_harms_no_other(
    shared: TestDatabase,
) -> None:
    async with oban_py(shared, **SERVING) as node:

        async def stands(wanted: dict[str, Any] | None) -> bool:
            check = await node.ask("check", queue="py")
            return bool(check == (wanted and {"running": [], **wanted}))

        for change, one, wanted in (
            (Change(paused=True), ALL, {"limit": 5, "paused": True}),
            (Change(limit=2), "py-1", {"limit": 2, "paused": True}),
            (Change(paused=False), ALL, {"limit": 2, "paused": False}),
            (Change(stopped=True), ALL, None),
        ):
            said = signals(Wish(queue="py", node=one, change=change, reason=""))
            for payload in said:
                Met().hear(channels.SIGNAL, payload)
            await queues.signal(shared.pool, said)
            await until(lambda wanted=wanted: stands(wanted))  # type: ignore[misc]


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
        await until(lambda: has_state(shared, other, "completed"))
        assert await has_state(shared, id, "available")

        start = {"action": "start", "limit": 3, "paused": False}
        for queue, ident in (("elixir_only", "any"), ("default", "Oban.worker-1")):
            await node.ask("signal", payload=start | {"queue": queue, "ident": ident})
        await until(lambda: has_state(shared, id, "completed"))

        await until(lambda: shared.pool.fetchval("SELECT NOT bool_or(paused) FROM qj_producers"))
        assert (await _steered(shared, "default"))["local_limit"] == 3
        ran = await jobs.find(shared.pool, elsewhere)
        assert ran is not None
        assert ran.attempted_by[:1] != ["worker-1"]  # oban-py starts what it is told to start


async def test_it_cancels_our_running_job(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):
        id = await node.ask("insert", worker="wait_for_release", queue="default")
        await until(lambda: has_state(shared, id, "executing"))

        await node.ask("cancel_job", job=id)
        await until(lambda: has_state(shared, id, "cancelled"))


async def test_we_cancel_a_job_that_it_runs(shared: TestDatabase) -> None:
    async with oban_py(shared, **SERVING) as node:
        made = await quarterjack.enqueue(shared.pool, "oban_node.Wait", queue="py")
        id = made.id or 0
        await until(lambda: has_state(shared, id, "executing"))

        async def running() -> bool:
            return bool((await node.ask("check", queue="py"))["running"] == [id])

        await until(running)
        await jobs.stop(shared.pool, [id])
        await until(lambda: has_state(shared, id, "completed"))


async def test_its_rescue_leaves_our_long_job_alone(shared: TestDatabase) -> None:
    async with oban_py(shared) as node, working(shared):
        id = await node.ask("insert", worker="wait_for_release", queue="default")
        await until(lambda: has_state(shared, id, "executing"))

        await node.ask("rescue", after=0.0)
        await shared.pool.execute("CREATE TABLE released ()")
        await until(lambda: has_state(shared, id, "completed"))

        job = await jobs.find(shared.pool, id)
        assert job is not None
        assert (job.attempt, job.errors, job.meta.get("rescued")) == (1, [], None)


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

        await until(lambda: has_state(shared, made.id or 0, "completed"))
        assert (await _steered(shared, "default"))["local_limit"] == 5
        assert worker.running
