"""A Postgres that is full, refuses, is slow, or is two (F12, F24, F26, F27, F28)."""

import asyncio
import random
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from quarterjack import migrate
from quarterjack.database import LOST, Address, open_pool
from quarterjack_local.postgres import Server
from tests.conftest import SETTINGS, TestDatabase
from tests.faults.arena import arena
from tests.faults.pair import host_and_port, pair

pytestmark = [pytest.mark.newest_postgres, pytest.mark.nightly, pytest.mark.timeout(300)]
FAILING = """
CREATE TABLE fault_flag (chance float, code text);
CREATE FUNCTION fault_raise() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE flag fault_flag;
BEGIN
  SELECT * INTO flag FROM fault_flag;
  IF random() < flag.chance THEN
    RAISE EXCEPTION 'injected' USING ERRCODE = flag.code;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER fault_raise AFTER INSERT ON qj_ticks FOR EACH STATEMENT EXECUTE FUNCTION fault_raise();
"""
CODES = {
    "deadlock": "40P01",
    "serialization": "40001",
    "canceled": "57014",
    "lock timeout": "55P03",
}
BIG = "INSERT INTO fault_big SELECT repeat(md5(n::text), 40) FROM generate_series(1, 9999) AS n"
DECIDED = "SELECT count(*) FROM qj_ticks WHERE term IS NOT NULL"
MEGABYTE = 1 << 20


async def test_f12_two_primaries_leave_one_history(
    server: Server, tmp_path: Path, seed: int
) -> None:
    """One replica stays with the old primary, the others are led to the new one; only that is exact."""
    dice = random.Random(seed)
    async with (
        pair(tmp_path, server.bin_dir, dice, synchronous=False) as (two, made),
        arena(made, tmp_path, seed=seed, replicas=3) as field,
    ):
        stays = await field.leader()
        async with field.trouble("two primaries", stays=stays.name):
            stays.proxy.target = host_and_port(two.primary)
            await stays.proxy.cut()
            two.replication.silent = True
            await field.pass_time(0.5)
            await two.promote()
            await two.service.retarget(*host_and_port(two.standby))
            await field.decides()
            await field.pass_time(10.0)
            assert await _decided(two.primary) > 0
            await asyncio.to_thread(two.primary.stop, "immediate")
            await stays.proxy.retarget(*host_and_port(two.standby))
        await field.decides()
        await field.verify()


async def test_f24_no_slot_is_left(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """The leader goes on with the connections that it has, and a follower can take over with its own."""
    database = own_server_database
    async with arena(database, tmp_path, seed=seed) as field, AsyncExitStack() as idlers:
        with suppress(asyncpg.TooManyConnectionsError):
            for _ in range(1_000):
                idle = await asyncpg.connect(database.url)
                idlers.push_async_callback(idle.close)
            raise AssertionError("the server takes everybody")
        field.diary.note("full")
        await field.pass_time(5.0)
        async with field.trouble("kill in a full server"):
            await field.kill(await field.leader())
            await field.decides()
        async with field.trouble("emptied"):
            await idlers.aclose()
        await field.verify()


@pytest.mark.parametrize("what", CODES)
async def test_f26_requests_are_refused(
    database: TestDatabase, tmp_path: Path, seed: int, what: str
) -> None:
    await database.pool.execute(FAILING)
    async with arena(database, tmp_path, seed=seed) as field:
        async with field.trouble("refusals", code=CODES[what]):
            await database.pool.execute("INSERT INTO fault_flag VALUES (0.5, $1)", CODES[what])
            await field.pass_time(8.0)
            await database.pool.execute("DELETE FROM fault_flag")
        await field.decides()
        await field.verify()
        assert any("injected" in line for line in field.said())


async def test_f27_a_slow_disk_costs_nothing_but_time(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Leaders may change, for a request that waits for the disk holds up its lease."""
    if not shutil.which("strace"):
        pytest.fail("strace is missing: apt-get install strace")
    async with arena(own_server_database, tmp_path, seed=seed) as field:
        term = await field.term()
        async with field.trouble("slow disk"), _strace(own_server_database.server):
            await field.pass_time(15.0)
        field.diary.note("terms", number=await field.term() - term)
        await field.decides()
        await field.verify()


@pytest.mark.root
async def test_f28_a_full_disk_loses_nothing(
    server: Server, tmp_path: Path, seed: int, small_disk: Path
) -> None:
    """Postgres may crash for it, and comes back once there is room."""
    own = Server(small_disk / "data", bin_dir=server.bin_dir, settings=SETTINGS | {"fsync": "on"})
    url = await asyncio.to_thread(own.start)
    try:
        address = Address(url=url, direct_url=url, schema="public")
        await migrate.apply(address, optional=migrate.OPTIONAL)
        async with open_pool(address, name="tests", size=5) as pool:
            database = TestDatabase(url=url, address=address, pool=pool, server=own)
            async with arena(database, tmp_path, seed=seed) as field:
                ballast = small_disk / "ballast"
                await pool.execute("CREATE TABLE fault_big (t text)")
                async with field.trouble("full disk"):
                    await asyncio.to_thread(_fill, ballast)
                    with suppress(*LOST):
                        for _ in range(1_000):
                            await pool.execute(BIG)
                        raise AssertionError("the disk takes everything")
                    await field.pass_time(5.0)
                    ballast.unlink()
                    await asyncio.to_thread(own.start)
                await field.decides()
                await field.verify()
    finally:
        await asyncio.to_thread(own.stop, "immediate")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(ballast: Path) -> None:
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(MEGABYTE))
    except OSError:
        return


def _processes(postmaster: int | None) -> list[str]:
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
    return [str(postmaster), *children.split()]


@asynccontextmanager
async def _strace(server: Server) -> AsyncIterator[None]:
    """Make each fdatasync of the server take 0.7 s."""
    postmaster = server.running()
    pids = [argument for pid in _processes(postmaster) for argument in ("-p", pid)]
    tracer = await asyncio.create_subprocess_exec(
        "strace",
        *("-f", "-q", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=700000"),
        *pids,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        await tracer.wait()


async def _decided(server: Server) -> int:
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        return int(await connection.fetchval(DECIDED))
    finally:
        await connection.close()
