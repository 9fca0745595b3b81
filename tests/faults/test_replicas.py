"""Replicas that are killed, ended, stopped, edited against and cut off (F1-F4, F7, F14, F15, F17, F25, F39)."""

import signal
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.faults.arena import Arena, arena

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(180)]
SEED = 20_261_124
BACKENDS = {
    "beats": "application_name LIKE 'quarterjack-scheduler beat%'",
    "listeners": "application_name LIKE '%listener'",
    "requests": "application_name ~ '^quarterjack-scheduler scheduler-[0-9]+$'",
    "all": "application_name LIKE 'quarterjack-scheduler%'",
}
LOCKS = {
    "a schedule": "SELECT FROM qj_schedules WHERE name = 'fault_1' FOR UPDATE",
    "the lease": "SELECT FROM qj_lease FOR UPDATE",
    "the jobs": "LOCK TABLE oban_jobs IN SHARE MODE",
}
EDIT = """
UPDATE qj_schedules
SET cron = (ARRAY['* * * * * *', '*/2 * * * * *', '*/5 * * * * *'])[$2], updated_by = 'storm'
WHERE name = 'fault_' || $1
"""
PAUSE = """
UPDATE qj_schedules
SET paused_at = CASE WHEN paused_at IS NULL THEN clock_timestamp() END, paused_by = NULL, updated_by = 'storm'
WHERE name = 'fault_' || $1
"""


async def test_f1_f2_the_leader_is_killed(database: TestDatabase, tmp_path: Path) -> None:
    async with arena(database, tmp_path, seed=SEED) as field:
        for number in range(3, 8):
            await field.pass_time(field.dice.random())
            leader = await field.leader()
            await field.act("kill", leader.service.kill, node=leader.name)
            await field.start(f"scheduler-{number}")
            await field.decides()
        await field.verify()


async def test_f3_the_leader_ends_in_order(database: TestDatabase, tmp_path: Path) -> None:
    async with arena(database, tmp_path, seed=SEED + 1) as field:
        for number in range(3, 6):
            await field.pass_time(field.dice.random())
            leader = await field.leader()
            assert await leader.service.stop() == 0
            field.diary.note("ended", node=leader.name)
            await field.start(f"scheduler-{number}")
            await field.decides()
        await field.verify()


async def test_f4_a_short_stop_costs_no_leadership(database: TestDatabase, tmp_path: Path) -> None:
    async with arena(database, tmp_path, seed=SEED + 2) as field:
        leader, term = await field.leader(), await field.term()
        await _stop(field, 0.4)

        assert (await field.leader()).name == leader.name
        assert await field.term() == term
        await field.verify()


async def test_f4_a_leader_that_was_stopped_is_fenced(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with arena(database, tmp_path, seed=SEED + 3) as field:
        for _ in range(3):
            term = await field.term()
            await _stop(field, 3.0 + field.dice.random())
            assert await field.term() > term
            await field.decides()
        await field.verify()


@pytest.mark.parametrize("which", BACKENDS)
async def test_f7_sessions_are_ended(database: TestDatabase, tmp_path: Path, which: str) -> None:
    async with arena(database, tmp_path, seed=SEED + 4) as field:
        for _ in range(3):
            await field.pass_time(field.dice.random())
            field.diary.note("terminate", which=which)
            await database.pool.execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {BACKENDS[which]} "
                "AND datname = current_database()"
            )
            await field.decides()
        await field.verify()


@pytest.mark.parametrize("way", ["silent", "deaf"])
async def test_f14_f15_the_leader_is_cut_off(
    database: TestDatabase, tmp_path: Path, way: str
) -> None:
    async with arena(database, tmp_path, seed=SEED + 5) as field:
        leader, term = await field.leader(), await field.term()
        field.diary.note("cut off", node=leader.name, way=way)
        setattr(leader.proxy, way, True)
        await field.pass_time(4.0)
        assert await field.term() > term
        assert (await field.leader()).name != leader.name
        setattr(leader.proxy, way, False)
        field.diary.note("healed", node=leader.name)
        await field.decides()
        await field.verify()


async def test_f14_everybody_is_cut_off(database: TestDatabase, tmp_path: Path) -> None:
    async with arena(database, tmp_path, seed=SEED + 6) as field:
        for silent in (True, False):
            for replica in field.replicas.values():
                replica.proxy.silent = silent
            field.diary.note("all cut off" if silent else "healed")
            await field.pass_time(4.0 if silent else 0.0)
        await field.decides()
        await field.verify()


async def test_f17_replies_are_cut(database: TestDatabase, tmp_path: Path) -> None:
    async with arena(database, tmp_path, seed=SEED + 7) as field:
        for replica in field.replicas.values():
            replica.proxy.cut_chance = 0.02
        await field.pass_time(15.0)
        cuts = sum(replica.proxy.cuts for replica in field.replicas.values())
        field.diary.note("cuts", number=cuts)
        for replica in field.replicas.values():
            replica.proxy.cut_chance = 0.0
        await field.decides()
        await field.verify()
    assert cuts >= 3


@pytest.mark.parametrize("what", LOCKS)
async def test_f25_a_forgotten_transaction_holds(
    database: TestDatabase, tmp_path: Path, what: str
) -> None:
    async with arena(database, tmp_path, seed=SEED + 8) as field:
        async with database.pool.acquire() as person, person.transaction():
            await person.execute(LOCKS[what])
            field.diary.note("lock", held=what)
            if what == "a schedule":
                for _ in range(3):
                    assert await field.decides() < 3.0
            await field.pass_time(4.0)
        field.diary.note("unlocked", held=what)
        await field.decides()
        await field.verify()


async def test_f39_edits_while_leaders_are_killed(database: TestDatabase, tmp_path: Path) -> None:
    async with arena(database, tmp_path, seed=SEED + 9) as field:
        for number in range(3, 6):
            for _ in range(30):
                which, cron = field.dice.randint(1, 12), field.dice.randint(1, 3)
                if field.dice.random() < 0.3:
                    await database.pool.execute(PAUSE, str(which))
                else:
                    await database.pool.execute(EDIT, str(which), cron)
                field.diary.note("edit", schedule=which)
                await field.pass_time(0.03)
            leader = await field.leader()
            await field.act("kill", leader.service.kill, node=leader.name)
            await field.start(f"scheduler-{number}")
        await field.decides()
        await field.verify()


async def _stop(field: Arena, seconds: float) -> None:
    leader = await field.leader()
    field.send(leader, signal.SIGSTOP)
    await field.pass_time(seconds)
    field.send(leader, signal.SIGCONT)
