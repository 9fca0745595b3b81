"""Oban Web beside real services, by what its collector was recorded to send and to keep."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.interop.met import Met
from tests.interop.oban_py import oban_py
from tests.processes import Cluster, cluster
from tests.scheduler.replica import add_schedule
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres
SILENT = ("leader", "sonar", "handoff", "diagnostics")
"""Where nobody but an Oban may speak: a ping of ours would change what Elixir nodes rely on."""
SHARED = {"crontab": [], "name": "Oban", "node": "web-1"}
"""What Met of a dashboard without crons sends every 15 s."""


@dataclass(slots=True)
class Web:
    """A dashboard's notifier: what it hears goes into Met, which raises if that would harm it."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    met: Met
    harmed: list[str]

    async def shows(self) -> bool:
        """Send what Met shares, and say whether it shows a queue; who had just connected may have missed it."""
        await self.say("cronitor", SHARED)
        return bool(self.met.checks)

    async def say(self, channel: str, message: dict[str, Any]) -> None:
        await self.connection.execute(
            "SELECT pg_notify('public.oban_' || $1, $2)", channel, json.dumps(message)
        )


@asynccontextmanager
async def web(database: TestDatabase) -> AsyncIterator[Web]:
    connection = await asyncpg.connect(database.url)
    listening = Web(connection, Met(), [])

    def hear(_: object, __: int, channel: str, payload: object) -> None:
        if channel.partition("_")[2] in SILENT:
            listening.harmed.append(f"{channel}: {payload}")
        try:
            listening.met.hear(channel.partition(".")[2], str(payload))
        except (AssertionError, KeyError, ValueError, TypeError) as error:
            listening.harmed.append(f"{channel}: {payload}: {error}")

    for name in ("insert", "signal", "gossip", "metrics", "cronitor", *SILENT):
        await connection.add_listener(f"public.oban_{name}", hear)
    try:
        yield listening
        assert listening.harmed == []
    finally:
        await connection.close()


@asynccontextmanager
async def serving(database: TestDatabase) -> AsyncIterator[Cluster]:
    async with cluster(database) as running:
        await running.scheduler()
        await running.worker(import_="tests.jobs", queues="default=5,other=2")
        await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM qj_producers"))
        await until(lambda: database.pool.fetchval("SELECT term > 0 FROM qj_lease"))
        yield running


async def test_web_shows_queues_counts_and_crons(database: TestDatabase) -> None:
    await add_schedule(database.pool, "nightly", cron="0 3 * * *", worker="count")
    await add_schedule(database.pool, "odd", cron="0 0 13 * fri", worker="count")
    async with serving(database), web(database) as shown:
        ids = await quarterjack.enqueue_many(
            database.pool,
            [NewJob(worker="wait_for_release"), NewJob(worker="count", queue="other")],
        )
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = 1 FROM oban_jobs WHERE state = 'executing'"
            )
        )

        async def complete() -> bool:
            met = shown.met
            return (
                await shown.shows()
                and len(met.checks) == 2
                and bool(met.crontab())
                and len(met.counts()) >= 2
            )

        await until(complete)
        await quarterjack.enqueue(database.pool, "snooze", queue="other")
        await until(lambda: _executed(shown.met, "snooze"))

        check = shown.met.checks["worker-1", "Oban", "default"]
        uuid = await database.pool.fetchval(
            "SELECT attempted_by[2] FROM oban_jobs WHERE state = 'executing'"
        )
        assert (check["running"], check["local_limit"], check["uuid"]) == ([ids[0].id], 5, uuid)
        assert not check["paused"]
        assert shown.met.counts()["executing", "default"] == 1
        assert shown.met.counts()["completed", "other"] == 1
        [[expression, worker, options]] = shown.met.crontab()
        assert (expression, worker, options["name"]) == ("0 3 * * *", "count", "nightly")


async def test_nothing_is_told_before_a_web_is_heard(database: TestDatabase) -> None:
    async with serving(database), web(database) as shown:
        await shown.say("cronitor", SHARED | {"software": "quarterjack"})
        await quarterjack.enqueue(database.pool, "count")
        before = await _beats(database)
        await until(lambda: _later(database, before))

        assert shown.met.checks == {}
        assert shown.met.metrics == []

        await until(shown.shows)


async def test_counts_are_left_to_a_leader_that_counts(database: TestDatabase) -> None:
    async with serving(database), web(database) as shown:
        await quarterjack.enqueue(database.pool, "wait_for_release")
        await until(shown.shows)

        async def counted() -> bool:
            counts = {
                "series": "full_count", "state": "completed", "queue": "elixir", "value": {"data": [3]},
            }  # fmt: skip
            message = {"metrics": [counts], "name": "Oban", "node": "web-1", "time": 1}
            await shown.say("metrics", message)
            return len(shown.met.metrics) > 400

        await until(counted, within=20)

        assert set(shown.met.counts()) == {("completed", "elixir")}


@pytest.mark.usefixtures("newer")
async def test_counts_are_left_to_oban_py(database: TestDatabase) -> None:
    counting = {"queues": {"py": 1}, "leadership": True, "metrics": {"interval": 0.1}}
    async with oban_py(database, **counting), serving(database), web(database) as shown:
        await quarterjack.enqueue(database.pool, "wait_for_release")
        await until(shown.shows)

        async def counted() -> bool:
            return len([each for each in shown.met.metrics if each["node"] == "py-1"]) > 80

        await until(counted, within=20)

        nodes = {each["node"] for each in shown.met.metrics if each["series"] == "full_count"}
        assert nodes == {"py-1"}
        assert ("py-1", "Oban", "py") in shown.met.checks


async def test_a_stopped_queue_is_shown_no_more_and_a_paused_one_as_paused(
    database: TestDatabase,
) -> None:
    async with serving(database), web(database) as shown:
        await until(shown.shows)
        await shown.say("signal", {"action": "stop", "queue": "other", "ident": "any"})
        await shown.say("signal", {"action": "pause", "queue": "default", "ident": "any"})

        async def paused() -> bool:
            return bool(shown.met.checks["worker-1", "Oban", "default"]["paused"])

        await until(paused)
        shown.met.checks.clear()
        await until(shown.shows)

    assert [queue for _, _, queue in shown.met.checks] == ["default"]


@pytest.mark.usefixtures("newer")
async def test_oban_py_reads_what_is_told(database: TestDatabase) -> None:
    await add_schedule(database.pool, "nightly", cron="0 3 * * *", worker="count")
    async with oban_py(database) as node, serving(database), web(database) as shown:
        await quarterjack.enqueue(database.pool, "count")
        await until(shown.shows)

        async def heard() -> set[str]:
            messages = await node.ask("heard")
            channels = {channel for channel, message in messages if message != SHARED}
            return channels if {"gossip", "cronitor", "metrics", "insert"} <= channels else set()

        await until(heard)


async def _executed(met: Met, worker: str) -> bool:
    return any(
        each["series"] == "exec_count" and (each["worker"], each["state"]) == (worker, "scheduled")
        for each in met.metrics
    )


async def _beats(database: TestDatabase) -> Any:
    return await database.pool.fetchval("SELECT max(heartbeat_at) FROM qj_producers")


async def _later(database: TestDatabase, before: Any) -> bool:
    return bool(
        await database.pool.fetchval(
            "SELECT max(heartbeat_at) > $1::timestamptz + interval '2.5 s' FROM qj_producers",
            before,
        )
    )
