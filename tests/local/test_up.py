"""`./dev up` as a user sees it: one command, its output, up.json, signals."""

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from quarterjack_local.postgres import Server
from quarterjack_local.privileges import command_line
from tests.conftest import SETTINGS, TestDatabase, binaries
from tests.processes import free_port
from tests.waiting import until

ROLES = ["admin", "scheduler", "scheduler", "worker"]


@dataclass
class Running:
    """One `quarterjack-local up` and what it printed."""

    directory: Path
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory / "up.json").read_text())
        return content

    def pids(self, role: str = "") -> list[int]:
        return [each["pid"] for each in self.state()["processes"] if role in each["role"]]

    async def up(self) -> dict[str, Any]:
        async def answered() -> bool:
            assert self.process.returncode is None, self.lines
            return any(line.startswith("  sign in") for line in self.lines)

        await until(answered, within=30)
        return self.state()

    async def stopped(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(10):
            return await self.process.wait()


@asynccontextmanager
async def started(directory: Path, *arguments: str, **env: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "quarterjack_local", "up", "--workers", "1", *arguments),
        env=os.environ | {"QUARTERJACK_LOCAL": str(directory)} | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    running = Running(directory, process)
    async with asyncio.TaskGroup() as group:
        group.create_task(running.read())
        try:
            yield running
        except BaseException as error:
            error.add_note("\n".join(running.lines))
            raise
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def refused(directory: Path, *arguments: str, **env: str) -> str:
    """Start what must refuse to run, and give the one line that says why."""
    async with started(directory, *arguments, **env) as running:
        async with asyncio.timeout(15):
            code = await running.process.wait()
    assert code == 1
    assert len(running.lines) == 1, running.lines
    return running.lines[0]


async def gone(pid: int) -> bool:
    return not command_line(pid).strip()


async def all_gone(pids: list[int]) -> bool:
    return all([await gone(pid) for pid in pids])


def leader_at(url: str) -> Any:
    async def leader() -> str | None:
        connection = await asyncpg.connect(url)
        try:
            name: str | None = await connection.fetchval(
                "SELECT node FROM qj_lease WHERE expires_at > clock_timestamp()"
            )
            return name
        finally:
            await connection.close()

    return leader


async def test_up_says_where_everything_is_and_runs_once(tmp_path: Path) -> None:
    port = str(free_port())
    async with started(tmp_path, "--port", port, PGSSLMODE="require") as running:
        state = await running.up()

        assert list(state) == ["admin_url", "sign_in_url", "database_url", "processes"]
        assert [set(each) for each in state["processes"]] == [{"role", "name", "pid"}] * 4
        assert sorted(each["role"] for each in state["processes"]) == ROLES
        for each in state["processes"]:
            assert f"-m quarterjack_{each['role']} " in command_line(each["pid"])
        assert (tmp_path / "up.json").stat().st_mode & 0o077 == 0
        page = await asyncio.to_thread(urllib.request.urlopen, state["sign_in_url"], timeout=5)
        assert page.status == 200
        page.close()
        assert await refused(tmp_path) == f"already running: {state['admin_url']}"


async def test_the_pid_of_the_leader_is_the_leaders(tmp_path: Path) -> None:
    async with started(tmp_path, "--port", str(free_port())) as running:
        state = await running.up()
        find_leader = leader_at(state["database_url"])
        leader = await until(find_leader)
        [pid] = [each["pid"] for each in state["processes"] if each["name"] == leader]

        os.kill(pid, signal.SIGKILL)

        async def another_leads() -> bool:
            return await find_leader() not in (None, leader)

        async def replaced() -> bool:
            schedulers = running.pids("scheduler")
            return len(schedulers) == 2 and pid not in schedulers

        await until(another_leads)
        await until(replaced)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_all_in_order(tmp_path: Path, number: signal.Signals) -> None:
    async with started(tmp_path, "--port", str(free_port())) as running:
        await running.up()
        pids = running.pids()

        assert await running.stopped(number) == 0

    assert await all_gone(pids)
    assert Server(tmp_path / "postgres").running() is None
    assert not (tmp_path / "up.json").exists()
    said = "\n".join(running.lines)
    assert said.index("scheduler-1 stopped") < said.index("worker-1 stopped")


async def test_a_killed_up_is_followed_by_another(tmp_path: Path) -> None:
    port = str(free_port())
    async with started(tmp_path, "--port", port) as first:
        before = await first.up()
        pids = first.pids()
        stuck = first.pids("admin")[0]
        os.kill(stuck, signal.SIGSTOP)

        first.process.kill()
        await first.process.wait()
        await until(lambda: all_gone([pid for pid in pids if pid != stuck]))

        async with started(tmp_path, "--port", port) as second:
            after = await second.up()

    assert await gone(stuck)
    assert after["database_url"] == before["database_url"]
    assert after["admin_url"] == before["admin_url"]


async def test_a_taken_port_gives_the_next(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        async with started(tmp_path, "--port", str(port)) as running:
            state = await running.up()

            assert int(state["admin_url"].rsplit(":", 1)[1]) > port


async def test_another_server_is_used_as_it_is(tmp_path: Path, database: TestDatabase) -> None:
    arguments = ("--port", str(free_port()), "--database-url", database.url)
    elsewhere = str(tmp_path / "nowhere")
    async with started(tmp_path, *arguments, DATABASE_URL_FILE=elsewhere) as running:
        state = await running.up()
        assert state["database_url"] == database.url
        assert await until(leader_at(database.url))

    assert not (tmp_path / "postgres").exists()
    assert await database.pool.fetchval("SELECT 1") == 1


async def test_an_unreachable_server_is_said(tmp_path: Path) -> None:
    url = f"postgresql://someone:secret@127.0.0.1:{free_port()}/quarterjack"

    said = await refused(tmp_path, "--database-url", url)

    assert said.startswith("quarterjack-local: cannot use the database: ")
    assert "Connect call failed" in said
    assert "secret" not in said


async def test_a_wrong_password_is_said(tmp_path: Path) -> None:
    rules = tmp_path / "pg_hba.conf"
    rules.write_text(
        "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )
    server = Server(
        tmp_path / "guarded",
        bin_dir=binaries()[0].path,
        settings=SETTINGS | {"hba_file": str(rules)},
    )
    await asyncio.to_thread(server.start)
    try:
        url = server.url("postgres").replace("postgres@", "nobody:wrong-one@")

        said = await refused(tmp_path, "--database-url", url)
    finally:
        await asyncio.to_thread(server.stop, "immediate")

    assert "password authentication failed" in said
    assert "wrong-one" not in said


async def test_a_foreign_schema_is_said(tmp_path: Path, database: TestDatabase) -> None:
    await database.pool.execute(
        "INSERT INTO qj_migrations (name, digest) VALUES ('0001_other', 'x')"
    )

    said = await refused(tmp_path, "--database-url", database.url)

    assert "the database has 0001_other, which this release does not know" in said


async def test_an_address_that_is_none_is_said(tmp_path: Path) -> None:
    said = await refused(tmp_path, "--database-url", "mysql://127.0.0.1/quarterjack")

    assert said.startswith("quarterjack-local: the address of the database cannot be used: ")


async def test_psql_opens_the_embedded_database_and_closes_it_again(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "quarterjack_local", "psql", "-Atc", "SELECT current_database()"),
        env=os.environ | {"QUARTERJACK_LOCAL": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()

    assert said == b"quarterjack\n"
    assert Server(tmp_path / "postgres").running() is None


async def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    said = await refused(tmp_path / "file" / "local")

    assert "cannot write to" in said
    assert "set QUARTERJACK_LOCAL" in said
