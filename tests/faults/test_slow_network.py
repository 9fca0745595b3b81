"""Networks that lose packets, are slow, half open, or lead through a pooler (F16, F19, F20, F30)."""

from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.faults.arena import Arena, arena
from tests.faults.evidence import CRONS
from tests.faults.pooler import pooled
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.nightly, pytest.mark.timeout(300)]
APPLIED = "SELECT applied_version = version FROM qj_schedules WHERE name = 'fault_1'"


async def test_f16_a_half_open_listener_is_noticed(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        leader = await field.leader()
        assert leader.proxy.forget(b"listener") == 1
        field.diary.note("half open", node=leader.name)
        await _edit(field, within=3.0)
        await until(lambda: _said(field, "listener lost its connection"), within=12.0)
        await _edit(field, within=3.0)
        await field.verify()


@pytest.mark.parametrize("percent", [5, 20])
async def test_f19_packets_are_lost(
    database: TestDatabase, tmp_path: Path, seed: int, percent: int
) -> None:
    """TCP sends them again, so that for a process a piece now and then takes long, and all behind it."""
    async with arena(database, tmp_path, seed=seed) as field:
        term = await field.term()
        async with field.trouble("lost packets", percent=percent):
            for replica in field.replicas.values():
                replica.proxy.loss = percent / 100
            await field.pass_time(20.0)
            changes = await field.term() - term
            field.diary.note("terms", number=changes)
            assert changes == 0 or percent > 5
            for replica in field.replicas.values():
                replica.proxy.loss = 0.0
        await field.decides()
        await field.verify()


async def test_f20_a_slow_network_makes_no_leaders_flap(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        term = await field.term()
        async with field.trouble("delay"):
            for replica in field.replicas.values():
                replica.proxy.delay = (0.05, 0.15)
            await field.pass_time(20.0)
            assert await field.term() <= term + 1
            for replica in field.replicas.values():
                replica.proxy.delay = (0.0, 0.0)
        await field.decides()
        await field.verify()


@pytest.mark.parametrize("listen", ["directly", "through the pooler"])
async def test_f30_a_transaction_pooler_lies_between(
    database: TestDatabase, tmp_path: Path, seed: int, listen: str
) -> None:
    """Who listens through it hears nothing, is told so, and still follows edits by looking."""
    async with pooled(database) as url:
        direct = database.url if listen == "directly" else url
        async with arena(
            database,
            tmp_path,
            seed=seed,
            DATABASE_URL=url,
            DATABASE_DIRECT_URL=direct,
            QUARTERJACK_STATEMENT_CACHE="0",
        ) as field:
            field.pooled = True
            await _edit(field, within=3.0)
            if listen == "directly":
                await field.pass_time(3.0)
            else:
                await until(lambda: _said(field, "listener lost its connection"), within=12.0)
            await field.kill(await field.leader())
            await field.decides()
            await field.verify()


async def _edit(field: Arena, *, within: float) -> None:
    cron = field.dice.choice(CRONS[1:])
    await field.database.pool.execute(
        "UPDATE qj_schedules SET cron = $1, description = description || '.', updated_by = 'nemesis' "
        "WHERE name = 'fault_1'",
        cron,
    )
    await until(lambda: field.ask(APPLIED), within=within)


async def _said(field: Arena, words: str) -> bool:
    return any(words in line for line in field.said())
