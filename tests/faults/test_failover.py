"""A primary that is lost, with what it had acknowledged or without, a stalled standby, an old backup (F10-F13, F44)."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from quarterjack_local.postgres import Server
from tests.checks import History, Tick, check_losses
from tests.conftest import TestDatabase
from tests.faults.arena import Arena, arena
from tests.faults.pair import Pair, host_and_port, pair
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(180)]
JUST_AFTER_A_SECOND = (
    "SELECT extract(microseconds FROM clock_timestamp())::integer % 1000000 < 200000"
)
SILENCE = "SELECT extract(epoch FROM max(clock_timestamp() - heartbeat_at))::float FROM qj_peers"
DECIDED_SINCE = "SELECT EXISTS (SELECT FROM qj_ticks WHERE decided_at > $1)"
LOST = "SELECT schedule_id, tick_at, decided_at FROM qj_lost_ticks"


@asynccontextmanager
async def _replicated(
    server: Server, tmp_path: Path, seed: int, *, synchronous: bool
) -> AsyncIterator[tuple[Pair, Arena]]:
    async with (
        pair(tmp_path, server.bin_dir, random.Random(seed), synchronous=synchronous) as (two, made),
        arena(made, tmp_path, seed=seed) as field,
    ):
        yield two, field


async def test_f10_what_an_asynchronous_failover_loses_is_decided_again(
    server: Server, tmp_path: Path, seed: int
) -> None:
    async with _replicated(server, tmp_path, seed, synchronous=False) as (two, field):
        await until(lambda: field.ask(JUST_AFTER_A_SECOND))
        async with field.trouble("failover", synchronous=False):
            two.replication.silent = True
            moment = await field.ask("SELECT clock_timestamp()")
            await until(lambda: field.ask(DECIDED_SINCE, moment))
            await field.pass_time(field.dice.random())
            await two.fail_over()
        await field.decides()
        await until(lambda: field.ask("SELECT count(*) > 0 FROM qj_lost_ticks"))
        history = await field.verify()
        acknowledged = await _acknowledged(field, history)
        reported = await _reported(field)
        check_losses(acknowledged, history.ledger, reported)
        field.diary.note("lost", number=len(reported))
    assert len(acknowledged) > len(set(acknowledged)), "nothing was lost: the test tests nothing"


async def test_f11_a_synchronous_failover_loses_nothing(
    server: Server, tmp_path: Path, seed: int
) -> None:
    async with _replicated(server, tmp_path, seed, synchronous=True) as (two, field):
        await until(lambda: field.ask(JUST_AFTER_A_SECOND))
        async with field.trouble("failover", synchronous=True):
            two.replication.silent = True
            await field.pass_time(1.2 + field.dice.random())
            await two.fail_over()
        await field.decides()
        history = await field.verify()
        acknowledged = await _acknowledged(field, history)
        assert await _reported(field) == []
        check_losses(acknowledged, history.ledger, [])


async def test_f13_a_standby_that_stalls_stops_no_heartbeat(
    server: Server, tmp_path: Path, seed: int
) -> None:
    """Nothing is asked to cancel either: that would show a commit that no standby has."""
    async with _replicated(server, tmp_path, seed, synchronous=True) as (two, field):
        silences = []
        async with field.trouble("stall"):
            two.replication.silent = True
            for _ in range(20):
                await field.pass_time(0.5)
                silences.append(await field.ask(SILENCE))
            two.replication.silent = False
        field.diary.note("silences", longest=max(silences))
        await field.decides()
        await field.verify()
        assert max(silences) < 3.0, silences
        assert "canceling wait" not in two.log()


@pytest.mark.parametrize("seconds", [6, pytest.param(45, marks=pytest.mark.nightly)])
async def test_f44_an_older_backup_is_restored(
    own_server_database: TestDatabase, tmp_path: Path, seed: int, seconds: int
) -> None:
    """What was decided since is decided again; what is older than half a minute, as catch-up says."""
    server = own_server_database.server
    async with arena(own_server_database, tmp_path, seed=seed) as field:
        await field.pass_time(5.0)
        async with field.trouble("restore"):
            await asyncio.to_thread(_back_up, server)
            await field.pass_time(float(seconds))
            await asyncio.to_thread(server.stop, "immediate")
            server.data.rename(server.data.with_name("lost"))
            server.data.with_name("backup").rename(server.data)
            await asyncio.to_thread(server.start)
        await field.decides()
        await until(lambda: field.ask("SELECT count(*) > 0 FROM qj_lost_ticks"))
        history = await field.verify()
        acknowledged = await _acknowledged(field, history)
        reported = await _reported(field)
        check_losses(acknowledged, history.ledger, reported)
        field.diary.note("lost", number=len(reported))
    assert len(reported) > 3 * seconds


def _back_up(server: Server) -> None:
    host, port = host_and_port(server)
    server._run(
        "pg_basebackup",
        *("-h", host, "-p", str(port), "-U", "postgres", "-X", "stream", "-c", "fast"),
        *("-D", str(server.data.with_name("backup"))),
    )


async def _acknowledged(field: Arena, history: History) -> list[Tick]:
    """What replicas have logged as fired, up to the moment when the history was read."""
    ids = {
        row["name"]: row["id"] for row in await _rows(field, "SELECT name, id FROM qj_schedules")
    }
    fired = [(ids[match[1]], datetime.fromisoformat(match[2])) for match in field.fired()]
    return [(id, at) for id, at in fired if at < (history.waiting[id] or at)]


async def _reported(field: Arena) -> list[tuple[Tick, datetime]]:
    rows = await _rows(field, LOST)
    return [((row["schedule_id"], row["tick_at"]), row["decided_at"]) for row in rows]


async def _rows(field: Arena, statement: str) -> list[asyncpg.Record]:
    return await field.database.pool.fetch(statement)
