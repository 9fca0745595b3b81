"""Replicas that are cut off, hear nothing, or lose replies (F14, F15, F17, F18)."""

from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.faults.arena import Arena, arena
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(180)]
STATEMENTS = {
    "strike": b"INSERT INTO qj_ticks",
    "plan": b"applied_version = p.version",
    "acquire": b"INSERT INTO qj_terms",
    "beat": b"INSERT INTO qj_peers",
}


@pytest.mark.parametrize("way", ["silent", "deaf"])
async def test_f14_f15_the_leader_is_cut_off(
    database: TestDatabase, tmp_path: Path, seed: int, way: str
) -> None:
    """Once healed, what it had asked or what it was answered arrives late."""
    async with arena(database, tmp_path, seed=seed) as field:
        leader, term = await field.leader(), await field.term()
        async with field.trouble("cut off", node=leader.name, way=way):
            setattr(leader.proxy, way, True)
            await until(lambda: field.ask("SELECT term > $1 FROM qj_lease", term))
            assert (await field.leader()).name != leader.name
            await field.pass_time(field.dice.uniform(0.5, 3.0))
            setattr(leader.proxy, way, False)
        await field.decides()
        await field.verify()


@pytest.mark.parametrize("way", ["silent", "deaf"])
async def test_f14_f15_everybody_is_cut_off(
    database: TestDatabase, tmp_path: Path, seed: int, way: str
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        async with field.trouble("all cut off", way=way):
            for replica in field.replicas.values():
                setattr(replica.proxy, way, True)
            await field.pass_time(4.0)
            for replica in field.replicas.values():
                setattr(replica.proxy, way, False)
        await field.decides()
        await field.verify()


async def test_f17_replies_are_cut_in_their_middle(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        async with field.trouble("cut replies", chance=0.05):
            for replica in field.replicas.values():
                replica.proxy.cut_chance = 0.05
            await until(lambda: _cut(field, 8), within=60.0)
            for replica in field.replicas.values():
                replica.proxy.cut_chance = 0.0
        await field.decides()
        await field.verify()


@pytest.mark.parametrize("which", STATEMENTS)
async def test_f18_the_reply_of_one_statement_is_cut(
    database: TestDatabase, tmp_path: Path, seed: int, which: str
) -> None:
    """It was done, and nobody knows: what is sent again must not do it twice."""
    async with arena(database, tmp_path, seed=seed) as field:
        async with field.trouble("cut reply", of=which):
            for replica in field.replicas.values():
                replica.proxy.cut_reply_of = STATEMENTS[which]
            for number in range(20):
                if which == "plan":
                    await database.pool.execute(
                        "UPDATE qj_schedules SET cron = $1, updated_by = 'nemesis' WHERE name = 'fault_4'",
                        f"*/{2 + number % 3} * * * * *",
                    )
                elif which == "acquire":
                    (await field.leader()).service.lines.append("its session is cut")
                    await (await field.leader()).proxy.cut()
                await field.pass_time(0.15)
            for replica in field.replicas.values():
                replica.proxy.cut_reply_of = None
        assert await _cut(field, 3)
        await field.decides()
        await field.verify()


async def _cut(field: Arena, times: int) -> bool:
    return sum(replica.proxy.cuts for replica in field.replicas.values()) >= times
