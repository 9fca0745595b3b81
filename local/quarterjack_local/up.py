"""Migrate, start the services as separate processes, announce the page, stop in order."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg

from quarterjack import migrate
from quarterjack.database import Address
from quarterjack_local import state
from quarterjack_local.supervisor import Service, Voice, announce, stop_in_order

LINK_EVERY = 600.0
ORDER = ("admin", "scheduler", "worker")
GRACE = {"admin": 2.0, "scheduler": 2.0, "worker": 4.0}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DatabaseRefused(RuntimeError):
    """The database cannot be used; the message says why."""


class Up:
    """One run of `./dev up`."""

    def __init__(
        self, path: Path, address: Address, schedulers: int, workers: int, port: int
    ) -> None:
        self._path = path
        self._address = address
        self._admin_url = f"http://127.0.0.1:{port}"
        self._sign_in_url = ""
        job_code = ("--import", "quarterjack_worker.jobs", "--queue", "maintenance=5,default=10")
        self._services = [
            *(self._service("scheduler", n + 1) for n in range(schedulers)),
            *(self._service("worker", n + 1, *job_code, "--grace", "3") for n in range(workers)),
            self._service("admin", 1, "--port", str(port)),
        ]
        self._say = Voice([service.name for service in self._services])
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until Ctrl-C, SIGTERM or the end of the terminal."""
        await self._migrate()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stop.set)
        try:
            async with asyncio.TaskGroup() as group:
                for service in self._services:
                    group.create_task(service.run(self._say, self._write))
                greeting = group.create_task(self._greet())
                await self._stop.wait()
                greeting.cancel()
                announce("\nstopping")
                await stop_in_order(self._services, ORDER)
        finally:
            state.forget(self._path)
        return 0

    async def _migrate(self) -> None:
        try:
            await migrate.apply(self._address, optional=migrate.OPTIONAL)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            said = str(error) or "no answer in time"
            raise DatabaseRefused(f"cannot use the database: {said}") from error

    def _service(self, role: str, number: int, *arguments: str) -> Service:
        name = f"{role}-{number}"
        return Service(
            role=role,
            name=name,
            command=(sys.executable, "-m", f"quarterjack_{role}", *arguments),
            env=os.environ
            | {"QUARTERJACK_NODE": name, "QUARTERJACK_TELEMETRY": "on", "PYTHONUNBUFFERED": "1"},
            grace=GRACE[role],
        )

    def _write(self) -> None:
        processes = [
            {"role": service.role, "name": service.name, "pid": service.pid}
            for service in self._services
            if service.pid is not None
        ]
        content = {
            "admin_url": self._admin_url,
            "sign_in_url": self._sign_in_url,
            "database_url": self._address.url,
            "processes": processes,
        }
        state.write(self._path, content)

    async def _greet(self) -> None:
        """Announce the page once it answers, and keep a link in up.json that can still be used."""
        while not (await self._lives() and await self._make_link()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
        self._write()
        lines = (
            "Quarterjack is up",
            f"  page     {self._admin_url}",
            f"  sign in  {self._sign_in_url}",
        )
        rule = "─" * (max(map(len, lines)) + 2)
        announce("\n".join(("", rule, *lines, rule, "")))
        while True:
            await asyncio.sleep(LINK_EVERY)
            if await self._make_link():
                self._write()

    async def _lives(self) -> bool:
        """Ask the admin's /live; without a thread, as services are forked meanwhile."""
        host, port = self._admin_url.removeprefix("http://").split(":")
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"GET /live HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
                status = await reader.readline()
                writer.close()
        except OSError:
            return False
        return b" 200 " in status

    async def _make_link(self) -> bool:
        """Ask for a link; the old one is kept when there is no answer."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "quarterjack_admin"),
            *("sign-in-link", "--base-url", self._admin_url),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        if process.returncode == 0:
            self._sign_in_url = said.decode().strip()
        return process.returncode == 0
