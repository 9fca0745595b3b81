"""Several faults at once, drawn from the seed, while workers run what is fired (F9, F43)."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from quarterjack.database import LOST
from tests.conftest import TestDatabase
from tests.faults.arena import Arena, Replica, arena
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.nightly, pytest.mark.timeout(600)]
WORKER = ("quarterjack_worker", "--import", "tests.jobs", "--queue", "default=20")
UNFINISHED = """
SELECT count(*) = 0 FROM oban_jobs WHERE state NOT IN ('completed', 'discarded', 'cancelled') AND inserted_at < $1
"""
EDIT = """
UPDATE qj_schedules SET cron = (ARRAY['* * * * * *', '*/2 * * * * *', '*/5 * * * * *'])[$1], updated_by = 'nemesis'
WHERE name = 'fault_' || $2
"""
LOCKS = (
    "SELECT FROM qj_schedules FOR UPDATE",
    "SELECT FROM qj_lease FOR UPDATE",
    "LOCK TABLE oban_jobs",
)
TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'quarterjack-%' AND random() < 0.5
"""


async def test_f9_the_server_restarts_while_workers_acknowledge(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    database = own_server_database
    async with arena(database, tmp_path, seed=seed, queue="default") as field:
        workers = [await field.running.start(f"worker-{n}", *WORKER) for n in (1, 2)]
        for mode in ("fast", "smart", "immediate"):
            await field.pass_time(2.0)
            async with field.trouble("restart", mode=mode):
                await asyncio.to_thread(database.server.stop, mode, within=2)
                await asyncio.to_thread(database.server.start)
            await field.decides()
        await _all_finished(field)
        assert all(worker.running for worker in workers)
        await field.verify()


@pytest.mark.parametrize("number", range(8))
async def test_f43_faults_come_together(
    own_server_database: TestDatabase, tmp_path: Path, seed: int, number: int
) -> None:
    async with arena(
        own_server_database, tmp_path, seed=seed + number, queue="default", replicas=3
    ) as field:
        for n in (1, 2):
            await field.running.start(f"worker-{n}", *WORKER)
        for _ in range(3):
            chosen = field.dice.sample(sorted(FAULTS), field.dice.randint(1, 3))
            async with asyncio.timeout(120), field.trouble("composed", chosen=chosen):
                await asyncio.gather(*(FAULTS[name](field) for name in chosen))
            await field.decides()
            await field.pass_time(3.0)
        await _all_finished(field)
        await field.verify()


async def _kills(field: Arena) -> None:
    for _ in range(3):
        await (await _whoever(field)).service.kill()
        await field.start(f"scheduler-{len(field.replicas) + 1}")
        await field.pass_time(field.dice.uniform(1.0, 4.0))


async def _stops(field: Arena) -> None:
    for _ in range(3):
        replica = await _whoever(field)
        field.send(replica, signal.SIGSTOP)
        await field.pass_time(field.dice.uniform(0.2, 4.0))
        field.send(replica, signal.SIGCONT)


async def _cuts_off(field: Arena) -> None:
    for way in ("silent", "deaf"):
        replica = await _whoever(field)
        setattr(replica.proxy, way, True)
        await field.pass_time(field.dice.uniform(0.5, 5.0))
        setattr(replica.proxy, way, False)


async def _loses_replies(field: Arena) -> None:
    await _for_all(field, "cut_chance", 0.03, 0.0)


async def _delays(field: Arena) -> None:
    await _for_all(field, "delay", (0.02, 0.15), (0.0, 0.0))


async def _ends_sessions(field: Arena) -> None:
    for _ in range(5):
        await field.ask(TERMINATE)
        await field.pass_time(field.dice.uniform(0.2, 2.0))


async def _crashes(field: Arena) -> None:
    await asyncio.to_thread(field.database.server.stop, "immediate")
    await field.pass_time(field.dice.uniform(0.0, 2.0))
    await asyncio.to_thread(field.database.server.start)


async def _locks(field: Arena) -> None:
    with suppress(*LOST):
        async with field.database.pool.acquire(timeout=5.0) as person, person.transaction():
            await person.execute(field.dice.choice(LOCKS))
            await field.pass_time(4.0)


async def _edits(field: Arena) -> None:
    for _ in range(100):
        await field.ask(EDIT, field.dice.randint(1, 3), str(field.dice.randint(4, 12)))
        await field.pass_time(0.05)


async def _whoever(field: Arena) -> Replica:
    """Rather the one that leads."""
    running = [each for each in field.replicas.values() if each.service.running]
    leading = await field.leading()
    return leading if leading and field.dice.random() < 0.7 else field.dice.choice(running)


async def _for_all(field: Arena, what: str, value: object, right: object) -> None:
    for replica in list(field.replicas.values()):
        setattr(replica.proxy, what, value)
    await field.pass_time(field.dice.uniform(3.0, 10.0))
    for replica in list(field.replicas.values()):
        setattr(replica.proxy, what, right)


async def _all_finished(field: Arena) -> None:
    moment = await until(lambda: field.ask("SELECT timezone('UTC', clock_timestamp())"), within=30)
    await until(lambda: field.ask(UNFINISHED, moment), within=30)


FAULTS: dict[str, Callable[[Arena], Awaitable[None]]] = {
    "kills": _kills,
    "stops": _stops,
    "cuts off": _cuts_off,
    "loses replies": _loses_replies,
    "delays": _delays,
    "ends sessions": _ends_sessions,
    "crashes": _crashes,
    "locks": _locks,
    "edits": _edits,
}
