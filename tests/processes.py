"""Real service processes for tests: started, watched, killed by pid, never left behind."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.conftest import TestDatabase

SCHEDULER = ("quarterjack_scheduler",)
WORKER = (
    "quarterjack_worker",
    "--import",
    "quarterjack_worker.jobs",
    "--queue",
    "maintenance=5,default=10",
)
LISTENING = """
SELECT EXISTS (
  SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND application_name LIKE '%listener' AND state = 'idle'
    AND query LIKE 'LISTEN%qj_canary%'
)
"""


@dataclass(slots=True)
class Service:
    """One running process and what it logged."""

    name: str
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    said: Callable[[str, str], None] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.process.wait()

    async def stop(self, within: float = 10.0) -> int:
        """SIGTERM, and its exit code."""
        self.send(signal.SIGTERM)
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())
            if self.said:
                self.said(self.name, self.lines[-1])


class Cluster:
    """Starts services on one database; `last_words` tells what they logged, `said` hears it at once."""

    def __init__(self, database: TestDatabase, group: asyncio.TaskGroup) -> None:
        self.database = database
        self.said: Callable[[str, str], None] | None = None
        self.services: list[Service] = []
        self._group = group

    async def start(
        self, name: str, *command: str, env: Mapping[str, str] | None = None
    ) -> Service:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=os.environ
            | {
                "DATABASE_URL": self.database.url,
                "QUARTERJACK_SCHEMA": self.database.address.schema,
                "QUARTERJACK_NODE": name,
                "QUARTERJACK_TELEMETRY": "on",
                "PYTHONUNBUFFERED": "1",
            }
            | dict(env or {}),
        )
        service = Service(name, process, said=self.said)
        self.services.append(service)
        self._group.create_task(service._read())
        return service

    async def scheduler(self, name: str = "scheduler-1") -> Service:
        return await self.start(name, *SCHEDULER)

    async def worker(
        self, name: str = "worker-1", *, import_: str | None = None, queues: str = ""
    ) -> Service:
        command = list(WORKER)
        if import_:
            command[2] = import_
        if queues:
            command[4] = queues
        return await self.start(name, *command)

    async def admin(self, name: str = "admin-1") -> tuple[Service, str]:
        port = free_port()
        service = await self.start(name, "quarterjack_admin", "--port", str(port))
        return service, f"http://127.0.0.1:{port}"

    async def answers(self, url: str) -> bool:
        """Say whether an admin is ready."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def listening(self) -> bool:
        """Say whether a service hears what is notified: a signal before that is lost."""
        return bool(await self.database.pool.fetchval(LISTENING))

    async def signal_session(self, service: Service, number: signal.Signals) -> None:
        """Signal the service and its children."""
        os.killpg(service.pid, number)

    def last_words(self) -> str:
        return "\n".join(
            f"{service.name} | {line}" for service in self.services for line in service.lines[-30:]
        )


@asynccontextmanager
async def cluster(database: TestDatabase) -> AsyncIterator[Cluster]:
    """Start services inside; each is dead, with its children, when the block ends."""
    async with asyncio.TaskGroup() as group:
        running = Cluster(database, group)
        try:
            yield running
        except BaseException as error:
            error.add_note(running.last_words())
            raise
        finally:
            for service in running.services:
                _kill_session(service)
            for service in running.services:
                await service.process.wait()


def _kill_session(service: Service) -> None:
    """The service leads a session of its own, so its children die with it."""
    try:
        os.killpg(service.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def psql_path(database: TestDatabase) -> str:
    """The psql beside the server's own binaries, or the one on PATH."""
    own = Path(getattr(database.server, "bin_dir", "")) / "psql"
    return str(own) if own.is_file() else "psql"
