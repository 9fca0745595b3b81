"""The embedded server: kept, taken over, never two at once."""

import asyncio
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import pytest

from quarterjack_local.postgres import Server
from quarterjack_local.privileges import PostgresFailed, orphans_of
from tests.conftest import binaries
from tests.waiting import until

START = "import sys, pathlib; from quarterjack_local.postgres import Server; "
START += "print(Server(pathlib.Path(sys.argv[1]), bin_dir=pathlib.Path(sys.argv[2])).start())"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "own" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--postgres")
        chosen = [each for each in binaries() if wanted in (None, str(each.version))]
        metafunc.parametrize("own", chosen, indirect=True, ids=[f"pg{b.version}" for b in chosen])


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "a directory" / "data", bin_dir=request.param.path)
    yield server
    server.stop("immediate")


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        yield connection
    finally:
        connection.terminate()


async def write(server: Server) -> None:
    async with connected(server) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")


async def kept(server: Server) -> bool:
    async with connected(server) as connection:
        return bool(await connection.fetchval("SELECT one FROM kept") == 1)


@contextmanager
def stranger(*arguments: str) -> Iterator[int]:
    """A live process that has nothing to do with Postgres."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()", *arguments],
        start_new_session=True,
    )
    try:
        yield process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def start_elsewhere(server: Server, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", START, str(server.data), str(server.bin_dir)],
        env=os.environ | env,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_a_stop_keeps_the_data_and_the_port(own: Server) -> None:
    first = own.start()
    await write(own)

    own.stop()
    assert own.running() is None
    again = own.start()

    assert again == first
    assert await kept(own)


async def test_a_second_start_takes_over(own: Server) -> None:
    first = own.start()
    pid = own.running()

    assert Server(own.data, bin_dir=own.bin_dir).start() == first
    assert own.running() == pid


async def test_a_killed_postmaster_is_followed_by_another(own: Server) -> None:
    own.start()
    await write(own)

    own.kill()
    own.start()

    assert await kept(own)


async def test_processes_that_outlive_their_postmaster_are_ended(own: Server) -> None:
    own.start()
    await write(own)
    async with connected(own) as connection:
        busy = asyncio.create_task(
            connection.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")
        )
        async with connected(own) as other:
            await until(
                lambda: other.fetchval(
                    "SELECT true FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'"
                )
            )
        own.kill()
        assert list(orphans_of(own.data))

        await asyncio.to_thread(own.start)
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy

    assert await kept(own)


@pytest.mark.parametrize("mentions_the_data", [False, True])
async def test_a_pid_file_may_name_somebody_else(own: Server, mentions_the_data: bool) -> None:
    own.start()
    await write(own)
    own.kill()
    file = own.data / "postmaster.pid"

    with stranger(*(["-D", str(own.data), "x"] if mentions_the_data else [])) as pid:
        file.write_text("\n".join([str(pid), *file.read_text().splitlines()[1:], ""]))
        assert own.running() is None
        own.stop()
        own.start()

    assert await kept(own)


@pytest.mark.parametrize("content", ["", "nonsense\n"])
async def test_a_torn_pid_file_is_no_obstacle(own: Server, content: str) -> None:
    own.start()
    own.stop()

    (own.data / "postmaster.pid").write_text(content)

    own.start()


async def test_starts_at_once_give_one_server(own: Server) -> None:
    starts = [start_elsewhere(own) for _ in range(3)]

    said = {start.communicate()[0] for start in starts}

    assert said == {f"{own.url('postgres')}\n"}
    assert [start.returncode for start in starts] == [0, 0, 0]


async def test_a_port_taken_meanwhile_is_left_to_its_owner(own: Server) -> None:
    first = own.start()
    own.stop()
    port = int(first.rsplit(":", 1)[1].split("/")[0])

    with socket.create_server(("127.0.0.1", port)):
        second = own.start()

    assert second != first
    async with connected(own) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_crash_while_the_database_is_made_leaves_no_half(own: Server) -> None:
    half = start_elsewhere(own)

    async def begun() -> bool:
        return any(own.data.parent.glob("data.new-*/base"))

    await until(begun)
    os.kill(half.pid, signal.SIGKILL)
    half.wait()
    assert half.stdout is not None
    half.stdout.close()
    own.start()
    await write(own)

    assert await kept(own)
    assert not list(own.data.parent.glob("data.new-*"))


def test_something_else_in_its_place_is_not_touched(own: Server) -> None:
    own.data.mkdir(parents=True)
    (own.data / "thesis.txt").write_text("ten years of work")

    with pytest.raises(PostgresFailed, match="holds something else"):
        own.start()

    assert (own.data / "thesis.txt").read_text() == "ten years of work"


def test_a_server_that_cannot_start_says_why(own: Server) -> None:
    own.settings["shared_buffers"] = "nonsense"

    with pytest.raises(PostgresFailed, match="invalid value for parameter"):
        own.start()


@pytest.mark.root
async def test_root_without_user_namespaces_runs_it_as_nobody(own: Server) -> None:
    with tempfile.TemporaryDirectory() as entered_by_all:
        os.chmod(entered_by_all, 0o755)  # noqa: S103 - so that nobody may enter
        server = Server(Path(entered_by_all) / "data", bin_dir=own.bin_dir)

        start = start_elsewhere(server, PATH="/without-unshare")
        start.communicate()
        assert start.returncode == 0
        owner = (server.data / "postmaster.pid").stat().st_uid
        await write(server)
        server.kill()

    assert owner == pwd.getpwnam("nobody").pw_uid
