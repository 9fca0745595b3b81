"""Leaders that are killed, ended, stopped or blocked, and their sessions and servers that end (F1-F8)."""

import asyncio
import signal
import statistics
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.faults.arena import Arena, Replica, arena
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(180)]
BACKENDS = {
    "beats": "application_name LIKE 'quarterjack-scheduler beat%'",
    "listeners": "application_name LIKE '%listener'",
    "requests": "application_name ~ '^quarterjack-scheduler scheduler-[0-9]+$'",
    "all": "application_name LIKE 'quarterjack-scheduler%'",
}
TO_NEXT_SECOND = """
SELECT extract(epoch FROM date_trunc('second', t) + interval '1 s' - t)::float FROM clock_timestamp() AS t
"""


async def test_f1_the_leaders_node_is_lost(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Nobody tells the server that its client is gone, so the lease must run out."""
    async with arena(database, tmp_path, seed=seed) as field:
        took = []
        for number in range(3, 9):
            await _some_phase(field, number)
            leader = await field.leader()
            leader.proxy.silent = True
            await field.kill(leader)
            took.append(await field.decides())
            leader.proxy.silent = False
            await field.start(f"scheduler-{number}")
            await field.all_started()
        await field.verify()
    assert statistics.median(took) < 3.5, took


async def test_f2_the_leader_is_killed(database: TestDatabase, tmp_path: Path, seed: int) -> None:
    """The server sees the session end, so nobody waits for the lease."""
    async with arena(database, tmp_path, seed=seed) as field:
        took = []
        for number in range(3, 11):
            await _some_phase(field, number)
            await field.kill(await field.leader())
            took.append(await field.decides())
            await field.start(f"scheduler-{number}")
            await field.all_started()
        await field.verify()
    assert statistics.median(took) < 2.0, took


async def test_f3_the_leader_ends_in_order(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        took = []
        for number in range(3, 8):
            await field.pass_time(field.dice.random())
            leader = await field.leader()
            async with field.trouble("end", node=leader.name):
                leader.service.send(signal.SIGTERM)
                took.append(await field.decides())
            assert await asyncio.wait_for(leader.service.process.wait(), 10.0) == 0
            errors = [line for line in leader.service.lines if " ERROR " in line]
            assert all("set broken aside" in line for line in errors), errors
            await field.start(f"scheduler-{number}")
            await field.all_started()
        await field.verify()
    assert statistics.median(took) < 2.0, took


async def test_f4_a_short_stop_costs_no_leadership(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        leader, term = await field.leader(), await field.term()
        await _stop(field, leader, 0.4)

        assert (await field.leader()).name == leader.name
        assert await field.term() == term
        await field.verify()


async def test_f4_a_leader_that_was_stopped_is_fenced(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        for _ in range(4):
            term = await field.term()
            await _stop(field, await field.leader(), 3.0 + field.dice.random())
            assert await field.term() > term
            await field.decides()
        await field.verify()


async def test_f6_a_blocked_loop_gives_up_its_lease(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """The thread of the election goes on, and must not keep the lease for a loop that does nothing."""
    async with arena(database, tmp_path, seed=seed, module="tests.faults.blockable") as field:
        leader, term = await field.leader(), await field.term()
        async with field.trouble("block", node=leader.name):
            leader.service.send(signal.SIGUSR1)
            await until(lambda: _leads_another(field, leader))
            await field.decides()
        assert await field.term() > term
        await until(lambda: _said(leader, "its tick loop is stuck"))
        await field.verify()


@pytest.mark.parametrize("which", BACKENDS)
async def test_f7_sessions_are_ended(
    database: TestDatabase, tmp_path: Path, seed: int, which: str
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        for _ in range(3):
            await field.pass_time(field.dice.random())
            async with field.trouble("terminate", which=which):
                await database.pool.execute(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {BACKENDS[which]} "
                    "AND datname = current_database()"
                )
                await field.decides()
        await field.verify()


async def test_f8_the_server_crashes_and_starts(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    database = own_server_database
    async with arena(database, tmp_path, seed=seed) as field:
        for _ in range(2):
            async with field.trouble("crash"):
                await asyncio.to_thread(database.server.stop, "immediate")
                await asyncio.to_thread(database.server.start)
            assert await field.decides() < 8.0
        assert all(replica.service.running for replica in field.replicas.values())
        await field.verify()


async def _some_phase(field: Arena, number: int) -> None:
    """Half of the faults fall into the last 0.3 s before a tick."""
    left = await field.ask(TO_NEXT_SECOND)
    before = field.dice.uniform(0.0, 0.3 if number % 2 else 1.0)
    await field.pass_time((left - before) % 1.0)


async def _stop(field: Arena, leader: Replica, seconds: float) -> None:
    async with field.trouble("stop", node=leader.name, seconds=seconds):
        field.send(leader, signal.SIGSTOP)
        await field.pass_time(seconds)
        field.send(leader, signal.SIGCONT)


async def _leads_another(field: Arena, than: Replica) -> bool:
    return (await field.leader()).name != than.name


async def _said(replica: Replica, words: str) -> bool:
    return any(words in line for line in replica.service.lines)
