"""Replicas of the scheduler, each behind a proxy of its own, and a nemesis that has its way with them."""

import asyncio
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from quarterjack.database import LOST
from tests.checks import (
    History,
    Trouble,
    check,
    check_hygiene,
    check_lateness,
    check_steps,
)
from tests.conftest import TestDatabase
from tests.faults.evidence import Diary, make_schedules, read_history, read_steps
from tests.processes import Cluster, Service, cluster
from tests.proxy import Proxy, proxied
from tests.waiting import until

LEADER = """
SELECT p.node FROM qj_lease AS l JOIN qj_peers AS p ON p.uuid = l.holder
WHERE l.expires_at > clock_timestamp()
"""
DECIDED = "SELECT count(*) FROM qj_ticks WHERE term IS NOT NULL"
PROBE = """
SELECT
  l.term, l.node, l.expires_at > clock_timestamp() AS led,
  (SELECT extract(epoch FROM clock_timestamp() - min(next_run_at))::float FROM qj_schedules
   WHERE paused_at IS NULL AND broken_reason IS NULL) AS behind,
  (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)::float FROM pg_stat_activity
   WHERE datname = current_database() AND state LIKE 'idle in transaction%'
     AND application_name LIKE 'quarterjack-%' AND application_name NOT LIKE '% jobs') AS idle
FROM qj_lease AS l
"""
SESSIONS = """
SELECT application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'quarterjack-%'
"""
CAUGHT_UP = """
SELECT
  bool_and(
    paused_at IS NOT NULL AND coalesce(resume_at > $1::timestamptz + interval '2 s', true)
    OR broken_reason IS NOT NULL
    OR coalesce(next_run_at > $1, false)
  )
FROM qj_schedules
"""
PROBE_EVERY = 0.25
RESUMED_WITHIN = 25.0
LATE, BUDGET = timedelta(seconds=2), timedelta(seconds=10)
SCHEDULER = "quarterjack_scheduler"


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
    late: timedelta = LATE
    pooled: bool = False
    replicas: dict[str, Replica] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)

    async def start(
        self, name: str, *, module: str = SCHEDULER, arguments: Sequence[str] = (), **env: str
    ) -> Replica:
        """Start a replica behind a proxy; it takes a moment, and so will whoever must take over to it."""
        proxy, address = await self.stack.enter_async_context(
            proxied(self.database.address, self.dice)
        )
        service = await self.running.start(
            name, module, *arguments, env={"DATABASE_URL": address.url, **env}
        )
        self.replicas[name] = Replica(name, service, proxy)
        self.diary.note("start", node=name)
        return self.replicas[name]

    async def all_started(self) -> None:
        """Wait until each replica that was started and not killed takes part."""
        await until(self._started, within=RESUMED_WITHIN)

    async def _started(self) -> bool:
        running = [service for service in self.running.services if service.running]
        return all(any(" started" in line for line in service.lines) for service in running)

    async def ask(self, statement: str, *arguments: Any) -> Any:
        """Read one value; None while the database cannot be asked."""
        try:
            async with asyncio.timeout(3.0):
                return await self.database.pool.fetchval(statement, *arguments)
        except LOST:
            return None

    async def leader(self) -> Replica:
        """Wait until one leads, and give it."""
        found = await until(self.leading, within=RESUMED_WITHIN)
        assert found is not None
        return found

    async def leading(self) -> Replica | None:
        """Give the one that leads, if one does and it is alive."""
        replica = self.replicas.get(await self.ask(LEADER) or "")
        return replica if replica is not None and replica.service.running else None

    async def term(self) -> int:
        term: int = await self.database.pool.fetchval("SELECT term FROM qj_lease")
        return term

    @asynccontextmanager
    async def trouble(
        self, what: str, *, schedules: Collection[int] | None = None, **more: Any
    ) -> AsyncIterator[None]:
        """Do something bad inside; ticks may be late until a while after it."""
        begin = datetime.now(UTC)
        self.diary.note(what, "invoke", **more)
        yield
        end = datetime.now(UTC)
        self.troubles.append(Trouble(begin=begin, end=end, schedules=schedules))
        self.diary.note(what, "ok", **more)

    async def act(self, what: str, deed: Callable[[], Awaitable[Any]], **more: Any) -> None:
        async with self.trouble(what, **more):
            await deed()

    async def kill(self, replica: Replica) -> None:
        await self.act("kill", replica.service.kill, node=replica.name)

    def send(self, replica: Replica, number: signal.Signals) -> None:
        self.diary.note("signal", node=replica.name, signal=number.name)
        replica.service.send(number)

    async def decides(self) -> float:
        """Wait for a decision that is not there yet; the seconds that it took."""
        before, began = await self.ask(DECIDED), time.monotonic()
        more = partial(self.ask, f"SELECT ({DECIDED}) > $1", before or 0)
        await until(more, within=RESUMED_WITHIN)
        took = time.monotonic() - began
        self.diary.note("decides", "ok", took=took)
        return took

    async def pass_time(self, seconds: float) -> None:
        """Let the database's clock advance while the replicas work."""
        end = time.monotonic() + seconds
        await until(partial(_reached, end), within=seconds + 5)

    async def probe(self) -> None:
        """Look at the lease and the sessions until cancelled."""
        while True:
            try:
                async with asyncio.timeout(2.0):
                    seen = await self.database.pool.fetchrow(PROBE)
            except LOST as error:
                self.diary.note("look", "fail", process="probe", error=str(error))
            else:
                assert seen is not None
                self.idle.append(seen["idle"])
                self.diary.note("look", "ok", process="probe", **dict(seen))
            await asyncio.sleep(PROBE_EVERY)

    async def verify(self) -> History:
        """Wait until nothing is owed, end the replicas in order, and check everything."""
        moment = await until(partial(self.ask, "SELECT clock_timestamp()"), within=RESUMED_WITHIN)
        await until(partial(self.ask, CAUGHT_UP, moment), within=RESUMED_WITHIN)
        history = await self.history()
        steps = await read_steps(self.database.pool)
        await self.all_started()
        for service in self.running.services:
            if service.running:
                assert await service.stop(within=20.0) == 0, service.name
        check(history)
        check_lateness(history.ledger, self.troubles, late=self.late, budget=BUDGET)
        check_steps(steps)
        check_hygiene(idle=self.idle, left=await self._left(), said=self.said())
        return history

    async def history(self) -> History:
        async with (
            self.database.pool.acquire() as reader,
            reader.transaction(isolation="repeatable_read"),
        ):
            history = await read_history(reader)
        late = sorted((line.decided_at - line.tick_at).total_seconds() for line in history.ledger)
        self.diary.note("history", lines=len(late), jobs=len(history.jobs), latest=late[-1])
        return history

    def said(self) -> list[str]:
        """Everything that was logged, one service after another."""
        return [line for service in self.running.services for line in service.lines]

    def fired(self) -> list[re.Match[str]]:
        """The ticks that replicas have seen acknowledged: name, tick, job."""
        found = (re.search(r"fired (\S+) of (\S+) as job (\d+)", line) for line in self.said())
        return [match for match in found if match]

    async def _left(self) -> list[str]:
        """Sessions of replicas that are gone, unless a pooler keeps them; the server needs a moment to notice."""
        if self.pooled:
            return []
        left: list[str] = []

        async def none() -> bool:
            left[:] = [row[0] for row in await self.database.pool.fetch(SESSIONS)]
            return not left

        try:
            await until(none, within=10.0)
        except TimeoutError:
            return left
        return []


async def _reached(end: float) -> bool:
    return time.monotonic() >= end


@asynccontextmanager
async def arena(
    database: TestDatabase,
    tmp_path: Path,
    *,
    seed: int,
    replicas: int = 2,
    module: str = SCHEDULER,
    queue: str = "unworked",
    **env: str,
) -> AsyncIterator[Arena]:
    """Set the schedules, start replicas, wait for a decision; a failure says where the diary is, and the seed."""
    diary, dice = Diary(tmp_path / "history.jsonl", seed), random.Random(seed)
    now = await database.pool.fetchval("SELECT clock_timestamp()")
    await make_schedules(database.pool, dice, now, queue)
    async with AsyncExitStack() as stack:
        stack.callback(diary.close)
        try:
            running = await stack.enter_async_context(cluster(database))
            running.said = lambda who, line: diary.note("said", process=who, line=line)
            made = Arena(database, running, diary, dice, stack)
            async with made.trouble("start"):
                for number in range(1, replicas + 1):
                    await made.start(f"scheduler-{number}", module=module, **env)
                if replicas:
                    await made.decides()
            probing = asyncio.create_task(made.probe())
            try:
                yield made
            finally:
                probing.cancel()
                await asyncio.gather(probing, return_exceptions=True)
        except BaseException as error:
            error.add_note(f"seed {seed}; what was done, and when: {diary.path}")
            raise
