"""Replicas of the scheduler, each behind a proxy of its own, and a nemesis that has its way with them."""

import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from quarterjack.database import LOST
from tests.checks import check
from tests.conftest import TestDatabase
from tests.faults.evidence import SCHEDULES, Diary, read_history
from tests.processes import Cluster, Service, cluster
from tests.proxy import Proxy, proxied
from tests.waiting import until

LEADER = """
SELECT p.node FROM qj_lease AS l JOIN qj_peers AS p ON p.uuid = l.holder
WHERE l.expires_at > clock_timestamp()
"""
DECIDED = "SELECT count(*) FROM qj_ticks WHERE term IS NOT NULL"
IDLE = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND state_change < now() - interval '2 s'
"""
QUIET_WITHIN, RESUMED_WITHIN = 25.0, 25.0
TROUBLE = ("Traceback", "unhandled", "was never awaited", "set aside")


@dataclass(slots=True)
class Replica:
    """One scheduler: its process, and the way on which it reaches the database."""

    name: str
    service: Service
    proxy: Proxy


@dataclass(slots=True)
class Arena:
    """The replicas by name, the dice, and the diary."""

    database: TestDatabase
    running: Cluster
    diary: Diary
    dice: random.Random
    stack: AsyncExitStack
    replicas: dict[str, Replica] = field(default_factory=dict)

    async def start(self, name: str, **env: str) -> Replica:
        """Start a replica behind a proxy."""
        proxy, address = await self.stack.enter_async_context(
            proxied(self.database.address, self.dice)
        )
        service = await self.running.start(
            name, "quarterjack_scheduler", env={"DATABASE_URL": address.url, **env}
        )
        self.replicas[name] = Replica(name, service, proxy)
        self.diary.note("start", node=name)
        return self.replicas[name]

    async def leader(self) -> Replica:
        """Wait until one leads, and give it."""
        found = await until(self._leading, within=RESUMED_WITHIN)
        assert found is not None
        return found

    async def _leading(self) -> Replica | None:
        replica = self.replicas.get(await self.database.pool.fetchval(LEADER))
        return replica if replica is not None and replica.service.running else None

    async def term(self) -> int:
        term: int = await self.database.pool.fetchval("SELECT term FROM qj_lease")
        return term

    async def act(self, what: str, deed: Callable[[], Awaitable[Any]], **more: Any) -> None:
        """Do it, and note when it began and ended."""
        self.diary.note(what, type="invoke", **more)
        await deed()
        self.diary.note(what, type="ok", **more)

    async def decides(self) -> float:
        """Wait for a decision that is not there yet; the seconds that it took."""
        before, began = await self.database.pool.fetchval(DECIDED), time.monotonic()
        await until(partial(self._beyond, before), within=RESUMED_WITHIN)
        took = time.monotonic() - began
        self.diary.note("decides", took=took)
        return took

    async def _beyond(self, before: int) -> bool:
        try:
            return bool(await self.database.pool.fetchval(f"SELECT ({DECIDED}) > $1", before))
        except LOST:
            return False

    async def pass_time(self, seconds: float) -> None:
        """Let the database's clock advance while the replicas work."""
        end = time.monotonic() + seconds
        await until(partial(_reached, end), within=seconds + 5)

    async def verify(self) -> None:
        """Wait until nothing is owed, end the replicas in order, and check everything."""
        moment = await self.database.pool.fetchval("SELECT clock_timestamp()")
        await until(partial(self._caught_up, moment), within=QUIET_WITHIN)
        history = await read_history(self.database.pool)
        self.diary.note("verify", lines=len(history.ledger), jobs=len(history.jobs))
        check(history)
        assert await self.database.pool.fetchval(IDLE) == 0
        for replica in self.replicas.values():
            said = "\n".join(replica.service.lines)
            assert not [word for word in TROUBLE if word in said], said[-3_000:]

    async def _caught_up(self, moment: Any) -> bool:
        try:
            return bool(
                await self.database.pool.fetchval(
                    "SELECT bool_and(paused_at IS NOT NULL OR coalesce(next_run_at > $1, false)) FROM qj_schedules",
                    moment,
                )
            )
        except LOST:
            return False

    def send(self, replica: Replica, number: signal.Signals) -> None:
        self.diary.note("signal", node=replica.name, signal=number.name)
        replica.service.send(number)


async def _reached(end: float) -> bool:
    return time.monotonic() >= end


@asynccontextmanager
async def arena(
    database: TestDatabase, tmp_path: Path, *, seed: int, replicas: int = 2
) -> AsyncIterator[Arena]:
    """Set the schedules, start replicas, wait for a leader; a failure says where the diary is, and the seed."""
    diary = Diary(tmp_path / "history.jsonl", seed)
    await database.pool.execute(SCHEDULES)
    async with AsyncExitStack() as stack:
        try:
            running = await stack.enter_async_context(cluster(database))
            made = Arena(database, running, diary, random.Random(seed), stack)
            for number in range(1, replicas + 1):
                await made.start(f"scheduler-{number}")
            await made.leader()
            await made.decides()
            yield made
        except BaseException as error:
            error.add_note(f"seed {seed}; what was done, and when: {diary.path}")
            raise
