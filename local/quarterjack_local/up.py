"""Migrate, start the services as separate processes, announce the page, stop in order."""

import asyncio
import contextlib
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

from quarterjack import migrate
from quarterjack.database import Address
from quarterjack_local import state
from quarterjack_local.supervisor import Service, Voice, first_of, stop_in_order

ORDER = ("admin", "scheduler", "worker")


class Up:
    """One run of `./dev up`."""

    def __init__(self, path: Path, url: str, schedulers: int, workers: int, port: int) -> None:
        self._path = path
        self._url = url
        self._admin_url = f"http://127.0.0.1:{port}"
        self._sign_in_url = ""
        self._services = [
            *(
                self._service("scheduler", n, "quarterjack_scheduler")
                for n in range(1, schedulers + 1)
            ),
            *(
                self._service(
                    *("worker", n, "quarterjack_worker"),
                    *("--import", "quarterjack_worker.jobs"),
                    *("--queue", "maintenance=5,default=10", "--grace", "3"),
                )
                for n in range(1, workers + 1)
            ),
            self._service("admin", 1, "quarterjack_admin", "--port", str(port)),
        ]
        self._say = Voice([service.name for service in self._services])
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until Ctrl-C or SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        address = Address(url=self._url, direct_url=self._url, schema=_schema())
        await migrate.apply(address, optional=migrate.OPTIONAL)
        async with asyncio.TaskGroup() as group:
            for service in self._services:
                group.create_task(service.run(self._say, self._write))
            greeting = group.create_task(self._greet())
            await self._stop.wait()
            greeting.cancel()
            print("\nstopping", flush=True)
            await stop_in_order(self._services, ORDER)
        (self._path / "up.json").unlink(missing_ok=True)
        return 0

    def _service(self, role: str, number: int, package: str, *arguments: str) -> Service:
        name = f"{role}-{number}"
        own = {
            "DATABASE_URL": self._url,
            "QUARTERJACK_NODE": name,
            "QUARTERJACK_TELEMETRY": "on",
            "PYTHONUNBUFFERED": "1",
        }
        return Service(
            role=role,
            name=name,
            command=(sys.executable, "-m", package, *arguments),
            env=os.environ | own,
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
            "database_url": self._url,
            "processes": processes,
        }
        state.write(self._path, content)

    async def _greet(self) -> None:
        while not await asyncio.to_thread(_answers, f"{self._admin_url}/live"):
            await first_of(self._stop.wait(), asyncio.sleep(0.2))
        self._sign_in_url = await self._new_link()
        self._write()
        lines = (
            "Quarterjack is up",
            f"  page     {self._admin_url}",
            f"  sign in  {self._sign_in_url}",
        )
        width = max(map(len, lines)) + 2
        print("\n".join(("", "─" * width, *lines, "─" * width, "")), flush=True)

    async def _new_link(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "quarterjack_admin",
                "sign-in-link",
                "--base-url",
                self._admin_url,
            ),
            env=os.environ | {"DATABASE_URL": self._url},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        return said.decode().strip()


def _schema() -> str:
    return os.environ.get("QUARTERJACK_SCHEMA", "public")


def _answers(url: str) -> bool:
    with (
        contextlib.suppress(urllib.error.URLError, OSError),
        urllib.request.urlopen(url, timeout=2) as answer,
    ):
        return bool(answer.status == 200)
    return False
