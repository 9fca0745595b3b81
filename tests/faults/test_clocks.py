"""Clocks that are wrong or step: those of nodes are no input, the database's decides (F21, F22)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from quarterjack import migrate
from quarterjack.database import Address, open_pool
from quarterjack_local.postgres import Server
from quarterjack_local.privileges import way_to_run
from tests.conftest import SETTINGS, TestDatabase
from tests.faults.arena import arena
from tests.faults.clocks import WrongClock
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(180)]
NODES = {"30 s": (30.0, -30.0), "1 h": (3_600.0, -3_600.0)}


@pytest.fixture
async def wrong_database(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[TestDatabase, WrongClock]]:
    """A migrated database on a server whose clock the test sets."""
    clock, right = WrongClock(tmp_path / "clock"), way_to_run(server.bin_dir)
    words = ("env", *(f"{name}={value}" for name, value in clock.env.items()))
    way = replace(right, prefix=(*right.prefix, *words))
    monkeypatch.setattr("quarterjack_local.postgres.way_to_run", lambda _: way)
    own = Server(tmp_path / "own", bin_dir=server.bin_dir, settings=SETTINGS)
    url = await asyncio.to_thread(own.start)
    try:
        address = Address(url=url, direct_url=url, schema="public")
        await migrate.apply(address, optional=migrate.OPTIONAL)
        async with open_pool(address, name="tests", size=10) as pool:
            yield TestDatabase(url=url, address=address, pool=pool, server=own), clock
    finally:
        await asyncio.to_thread(own.stop, "immediate")


@pytest.mark.parametrize("by", NODES)
async def test_f21_nodes_whose_clocks_are_wrong_are_on_time(
    database: TestDatabase, tmp_path: Path, seed: int, by: str
) -> None:
    """They are as much on time as in a run without a fault, whichever of them leads."""
    clocks = [WrongClock(tmp_path / f"clock-{number}") for number in (1, 2)]
    for clock, ahead in zip(clocks, NODES[by], strict=True):
        clock.set(ahead)
    async with arena(database, tmp_path, seed=seed, replicas=0) as field:
        for number, clock in enumerate(clocks, 1):
            await field.start(f"scheduler-{number}", **clock.env)
        await field.all_started()
        await field.pass_time(4.0)
        await field.kill(await field.leader())
        await field.decides()
        await field.pass_time(4.0)
        await field.verify()


async def test_f21_nodes_whose_clocks_jump_are_on_time(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    clocks = [WrongClock(tmp_path / f"clock-{number}") for number in (1, 2)]
    async with arena(database, tmp_path, seed=seed, replicas=0) as field:
        for number, clock in enumerate(clocks, 1):
            await field.start(f"scheduler-{number}", **clock.env)
        await field.all_started()
        for _ in range(20):
            for clock in clocks:
                ahead = field.dice.choice((-3_600.0, -30.0, -0.7, 0.0, 0.7, 30.0, 3_600.0))
                clock.set(ahead)
            field.diary.note("clocks jumped")
            await field.pass_time(0.5)
        await field.verify()


@pytest.mark.parametrize(
    "steps", [(20.0, 14.0, 14.5, 6.5), pytest.param((20.0, -20.0), marks=pytest.mark.nightly)]
)
async def test_f22_the_databases_clock_steps(
    wrong_database: tuple[TestDatabase, WrongClock],
    tmp_path: Path,
    seed: int,
    steps: tuple[float, ...],
) -> None:
    """What falls due by a step forward is decided at once; after a step back, nothing is decided again."""
    database, clock = wrong_database
    async with arena(database, tmp_path, seed=seed) as field:
        field.late = timedelta(days=1)
        for ahead in steps:
            term = await field.term()
            clock.set(ahead)
            field.diary.note("the database's clock steps", ahead=ahead)
            await field.pass_time(3.0)
            assert await field.term() <= term + 1
            assert await field.leader()
        await until(
            lambda: field.ask("SELECT min(next_run_at) <= clock_timestamp() FROM qj_schedules"),
            within=45,
        )
        await field.decides()
        await field.verify()


async def test_f22_the_databases_clock_steps_while_it_restarts(
    wrong_database: tuple[TestDatabase, WrongClock], tmp_path: Path, seed: int
) -> None:
    """Each policy takes up an hour in its own way."""
    database, clock = wrong_database
    async with arena(database, tmp_path, seed=seed) as field:
        field.late = timedelta(days=1)
        async with field.trouble("crash", ahead=3_600.0):
            await asyncio.to_thread(database.server.stop, "immediate")
            clock.set(3_600.0)
            await asyncio.to_thread(database.server.start)
        await field.decides()
        history = await field.verify()
    assert {"coalesced", "skipped_missed"} <= {line.outcome for line in history.ledger}
