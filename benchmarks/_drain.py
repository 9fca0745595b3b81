"""Run an engine's programs against databases of its own, and measure what they do and cost."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from _engines import Engine
from _rig import Rig

from quarterjack import migrate
from quarterjack.database import Address

TICK = os.sysconf("SC_CLK_TCK")
LOOK = 0.05
LONGEST = 600.0
QUIET = {"QUARTERJACK_LOG_LEVEL": "WARNING"}
HISTORY = """
INSERT INTO oban_jobs
  (state, queue, worker, attempt, inserted_at, scheduled_at, attempted_at, attempted_by, completed_at)
SELECT
  'completed', 'default', 'noop', 1, at, at, at, ARRAY['node', gen_random_uuid()::text], at + interval '1 s'
FROM generate_series(1, $1) AS n, LATERAL (SELECT timezone('UTC', now()) - n * interval '1 s' AS at) AS t
"""
FUTURE = """
INSERT INTO oban_jobs (state, queue, worker, scheduled_at)
SELECT 'scheduled', 'default', 'noop', timezone('UTC', now()) + interval '1 day' + n * interval '1 s'
FROM generate_series(1, $1) AS n
"""

COUNTERS = """
SELECT xact_commit, pg_current_wal_lsn() - '0/0' AS wal FROM pg_stat_database WHERE datname = current_database()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """A queue worked off: jobs a second, and what a job cost; memory is the highest of any one process, in MB."""

    rate: float
    transactions: float
    wal: float
    worker_cpu: float
    server_cpu: float
    memory: float


@dataclass(slots=True, kw_only=True)
class Program:
    """A running program, and the lines it says."""

    process: asyncio.subprocess.Process

    async def line(self, word: str) -> float:
        """Wait for the next line that begins so; the number behind the word, or 0."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(word.encode()):
                return float(line.split()[1]) if b" " in line else 0.0
        raise RuntimeError(f"a program ended without saying {word!r}")

    def family(self) -> list[int]:
        """Give its pid and those of its children."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, listed.split())]

    async def end(self) -> None:
        """Ask it to end, wait, and read what it still says."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(10):
                    await self.process.communicate()
            except TimeoutError:
                self.process.kill()
        await self.process.communicate()


class Bench:
    """One server, and a fresh database for each measurement."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._made = 0

    @asynccontextmanager
    async def database(self, engine: Engine) -> AsyncIterator[str]:
        """Give an empty database with the engine's tables; it is dropped when the block ends."""
        self._made += 1
        name = f"run_{self._made}"
        await self.rig.pool.execute(f"CREATE DATABASE {name}")
        url = self.rig.url.rpartition("/")[0] + f"/{name}"
        try:
            if engine.ours:
                await migrate.apply(Address(url=url, direct_url=url, schema="public"))
            else:
                await self.run(engine, "make", url, says=None)
            yield url
        finally:
            await self.rig.pool.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def start(self, engine: Engine, verb: str, url: str, *numbers: int) -> Program:
        process = await asyncio.create_subprocess_exec(
            *engine.command(verb, url, *numbers),
            stdout=asyncio.subprocess.PIPE,
            stderr=None if os.environ.get("QUARTERJACK_BENCH_LOG") else asyncio.subprocess.DEVNULL,
            env=os.environ | {"DATABASE_URL": url} | QUIET | engine.env,
        )
        return Program(process=process)

    async def run(
        self, engine: Engine, verb: str, url: str, *numbers: int, says: str | None = "seconds"
    ) -> float:
        """Run one of its programs to its end; the seconds it measured."""
        program = await self.start(engine, verb, url, *numbers)
        async with asyncio.timeout(LONGEST):
            answer = await program.line(says) if says else 0.0
            await program.process.communicate()
        if code := program.process.returncode:
            raise RuntimeError(f"{engine.name} {verb} failed with {code}")
        return answer

    async def drain(
        self,
        engine: Engine,
        many: int,
        settings: tuple[int, ...],
        *,
        processes: int = 1,
        others: int = 0,
    ) -> Drained:
        """Fill a queue and work it off, from the first handler's start to the last ack; `others` rows lie around."""
        async with self.database(engine) as url:
            db = await asyncpg.connect(url)
            if others:
                await db.execute(HISTORY, others, timeout=LONGEST)
                await db.execute(FUTURE, others, timeout=LONGEST)
            await self.run(engine, "bulk", url, many)
            await db.execute("VACUUM ANALYZE", timeout=LONGEST)
            await db.execute("CHECKPOINT", timeout=LONGEST)
            workers = [await self.start(engine, "work", url, *settings) for _ in range(processes)]
            try:
                return await self._watch(db, engine, many, workers)
            finally:
                for worker in workers:
                    await worker.end()

    async def _watch(
        self,
        db: "asyncpg.Connection[asyncpg.Record]",
        engine: Engine,
        many: int,
        workers: list[Program],
    ) -> Drained:
        """Look by an index: a look that reads the table from its start takes ever more of the engine's time."""
        loop = asyncio.get_running_loop()
        await db.execute("SET enable_seqscan = off")
        async with asyncio.timeout(LONGEST):
            await workers[0].line("first")
            began = loop.time()
            pids = [pid for worker in workers for pid in worker.family()]
            before = await self._counters(db)
            cpu, server = sum(map(cpu_of, pids)), self._server_cpu()
            while not await db.fetchval(engine.ended):  # noqa: ASYNC110 - another process ends it
                await asyncio.sleep(LOOK)
        seconds = loop.time() - began
        cpu, server = sum(map(cpu_of, pids)) - cpu, self._server_cpu() - server
        memory = max(map(memory_of, pids))
        for worker in workers:
            await worker.end()
        after = await self._counters(db)
        return Drained(
            rate=many / seconds,
            transactions=(after[0] - before[0]) / many,
            wal=(after[1] - before[1]) / many,
            worker_cpu=cpu / many * 1e6,
            server_cpu=server / many * 1e6,
            memory=memory,
        )

    async def _counters(self, db: "asyncpg.Connection[asyncpg.Record]") -> tuple[float, float]:
        await db.execute("SELECT pg_stat_force_next_flush()")
        record = await db.fetchrow(COUNTERS)
        assert record is not None
        return float(record["xact_commit"]), float(record["wal"])

    def _server_cpu(self) -> float:
        """Give the CPU seconds of all processes of the server, those that have ended too."""
        listed = Path(f"/proc/{self.rig.pid}/task/{self.rig.pid}/children").read_text()
        alive = sum(cpu_of(int(pid)) for pid in listed.split())
        return alive + cpu_of(self.rig.pid, waited_for=True)


def cpu_of(pid: int, *, waited_for: bool = False) -> float:
    """Give the CPU seconds of a process, and of the children that it has waited for; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11 : 15 if waited_for else 13])) / TICK


def wakeups_of(pid: int) -> int:
    """Count how often threads of a process that live have waited, and were woken; 0 if it is gone."""
    try:
        told = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/status")]
    except FileNotFoundError:
        return 0
    return sum(
        int(count) for status in told for count in re.findall(r"\nvoluntary.*?(\d+)", status)
    )


def memory_of(pid: int) -> float:
    """Give the most memory that a process has held, in MB; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
