"""Ticks under the same faults, beside oban-py: how many minutes were missed, and how many doubled.

Two replicas of each scheduler, five entries on `* * * * *`, each system with a database of its own on one server.
Rounds: undisturbed; the leader killed (kill -9) 2 s before each minute; the leader stopped (SIGSTOP) 2 s before each
minute, for 40 s; both replicas killed then and started 10 s later, as when a deploy replaces all at once; the server
crashed (immediate) then and started 5 s later. A replica that was killed, or has ended, is started again.

    ./dev bench peers [minutes of each round, default 5]
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from quarterjack import migrate
from quarterjack.database import Address
from quarterjack_local.postgres import Server, find_binaries

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from tests.interop.environment import oban_python  # noqa: E402 - it is found by the line above

ENTRIES, REPLICAS, MINUTE = 5, 2, 60.0
BEFORE, STOPPED_FOR, AWAY, CRASHED = 2.0, 40.0, 10.0, 5.0
FAULTS = ("nothing", "kill_leader", "stop_leader", "replace_all", "crash_server")
SCHEDULES = """
INSERT INTO qj_schedules (name, worker, cron, queue, overlap)
SELECT 'every_' || n, 'w', '* * * * *', 'unworked', 'allow' FROM generate_series(1, $1) AS n
"""
TICKS = """
SELECT date_trunc('minute', scheduled_at) AS at, count(*) AS jobs
FROM oban_jobs WHERE scheduled_at >= $1 AND scheduled_at < $2 GROUP BY 1
"""
OURS = "SELECT node FROM qj_lease WHERE expires_at > clock_timestamp()"
THEIRS = "SELECT node FROM oban_leaders WHERE expires_at > timezone('UTC', clock_timestamp())"


@dataclass(slots=True)
class System:
    """One scheduler: how its replicas are started, and who leads."""

    name: str
    url: str
    command: Callable[[str], list[str]]
    leader: str
    server: Server
    crashing: asyncio.Lock
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, node: str) -> None:
        self.running[node] = await asyncio.create_subprocess_exec(
            *self.command(node),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"DATABASE_URL": self.url, "QUARTERJACK_NODE": node},
        )

    async def leading(self) -> str | None:
        connection = await asyncpg.connect(self.url)
        try:
            node: str | None = await connection.fetchval(self.leader)
        finally:
            await connection.close()
        return node if node in self.running else None

    async def kill_leader(self) -> None:
        if (node := await self.leading()) is not None:
            self.running[node].kill()
            await self.running[node].wait()
            await self.start(node)

    async def stop_leader(self) -> None:
        if (node := await self.leading()) is not None:
            self.running[node].send_signal(signal.SIGSTOP)
            await asyncio.sleep(STOPPED_FOR)
            self.running[node].send_signal(signal.SIGCONT)

    async def replace_all(self) -> None:
        for process in self.running.values():
            process.kill()
            await process.wait()
        await asyncio.sleep(AWAY)
        for node in list(self.running):
            await self.start(node)

    async def crash_server(self) -> None:
        """Crash the server, which all systems share: the first to come does it."""
        if not self.crashing.locked():
            async with self.crashing:
                await asyncio.to_thread(self.server.stop, "immediate")
                await asyncio.sleep(CRASHED)
                await asyncio.to_thread(self.server.start)
        async with self.crashing:
            await asyncio.sleep(CRASHED)
        for node, process in list(self.running.items()):
            if process.returncode is not None:
                await self.start(node)

    async def nothing(self) -> None:
        """Leave it undisturbed."""

    async def end(self) -> None:
        for process in self.running.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def count(self, start: datetime, end: datetime) -> tuple[int, int, int]:
        """Give the ticks that were due, those without a job, and the jobs too many."""
        connection = await asyncpg.connect(self.url)
        try:
            found = await connection.fetch(
                TICKS, start.replace(tzinfo=None), end.replace(tzinfo=None)
            )
        finally:
            await connection.close()
        due = round((end - start).total_seconds() / MINUTE) * ENTRIES
        jobs = [record["jobs"] for record in found]
        here = sum(min(count, ENTRIES) for count in jobs)
        return due, due - here, sum(max(0, count - ENTRIES) for count in jobs)


async def round_of(system: System, fault: str, start: float, minutes: int) -> tuple[int, int, int]:
    """Let a round pass from the minute `start` on, with the fault before each of its minutes."""
    act = getattr(system, fault)
    for minute in range(minutes):
        await asyncio.sleep(start + minute * MINUTE - BEFORE - now())
        await act()
    await asyncio.sleep(start + minutes * MINUTE - BEFORE - 1 - now())
    return await system.count(
        datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(start + minutes * MINUTE, UTC)
    )


def now() -> float:
    return datetime.now(UTC).timestamp()


async def make(server: Server, name: str) -> str:
    url = server.url("postgres")
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    url = server.url(name)
    await migrate.apply(Address(url=url, direct_url=url, schema="public"), optional=())
    return url


async def main(python: str, minutes: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory) / "data", bin_dir=find_binaries()[0].path, settings={})
        server.start()
        ours, theirs = await make(server, "ours"), await make(server, "theirs")
        connection = await asyncpg.connect(ours)
        await connection.execute(SCHEDULES, ENTRIES)
        await connection.close()
        crashing = asyncio.Lock()
        scheduler = [sys.executable, "-m", "quarterjack_scheduler"]
        replica = [python, str(HERE / "_oban_replica.py"), theirs]
        systems = [
            System("quarterjack", ours, lambda _: scheduler, OURS, server, crashing),
            System("oban-py", theirs, lambda node: [*replica, node], THEIRS, server, crashing),
        ]
        try:
            for system in systems:
                for number in range(REPLICAS):
                    await system.start(f"{system.name}-{number + 1}")
            await report(systems, minutes)
        finally:
            for system in systems:
                await system.end()
            server.stop("immediate")


async def report(systems: list[System], minutes: int) -> None:
    print("| fault | system | ticks due | missing | doubled |\n|---|---|---:|---:|---:|")
    for fault in FAULTS:
        start = (now() // MINUTE + 2) * MINUTE
        rounds = [round_of(system, fault, start, minutes) for system in systems]
        for system, found in zip(systems, await asyncio.gather(*rounds), strict=True):
            due, missing, doubled = found
            print(f"| {fault} | {system.name} | {due} | {missing} | {doubled} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main(str(oban_python()), int(sys.argv[1]) if len(sys.argv) > 1 else 5))
