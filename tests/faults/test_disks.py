"""A disk that is slow, full, or errs, under schedulers and workers (F27, F28)."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from quarterjack import migrate
from quarterjack.database import LOST, Address, open_pool
from quarterjack_local.postgres import Server
from tests.conftest import SETTINGS, TestDatabase
from tests.faults.crew import crew

pytestmark = [pytest.mark.newest_postgres, pytest.mark.nightly, pytest.mark.timeout(300)]
SLOW = "inject=fdatasync:delay_enter=700000"
ERRS = "inject=pwrite64,fdatasync:error=EIO:when=40+40"
BIG = "INSERT INTO fault_big SELECT repeat(md5(n::text), 40) FROM generate_series(1, 9999) AS n"
MEGABYTE = 1 << 20


async def test_f27_a_slow_disk_costs_nothing_but_time(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Leaders may change, for a request that waits for the disk holds up its lease."""
    async with crew(own_server_database, tmp_path, seed=seed, schedulers=2) as all:
        await all.hire("worker-1")
        term = await all.field.term()
        async with (
            all.load(),
            all.field.trouble("slow disk"),
            _injected(own_server_database.server, SLOW),
        ):
            await all.field.pass_time(15.0)
        all.field.diary.note("terms", number=await all.field.term() - term)
        await all.field.decides()
        await all.verify()


async def test_f27_a_disk_that_errs_loses_nothing(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Each of its processes fails at every fortieth write or sync, for which Postgres crashes and starts anew."""
    server = own_server_database.server
    async with crew(own_server_database, tmp_path, seed=seed, schedulers=2) as all:
        await all.hire("worker-1")
        async with all.load(), all.field.trouble("disk errors"):
            async with _injected(server, ERRS):
                await all.field.pass_time(15.0)
            await asyncio.to_thread(server.start)
        await all.field.decides()
        await all.verify()
    log = server.data.with_name("data.log").read_text(errors="replace")
    assert "PANIC" in log
    assert "Input/output error" in log


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
            async with crew(database, tmp_path, seed=seed, schedulers=2) as all:
                await all.hire("worker-1")
                ballast = small_disk / "ballast"
                await pool.execute("CREATE TABLE fault_big (t text)")
                async with all.load(), all.field.trouble("full disk"):
                    await asyncio.to_thread(_fill, ballast)
                    with suppress(*LOST):
                        for _ in range(1_000):
                            await pool.execute(BIG)
                        raise AssertionError("the disk takes everything")
                    await all.field.pass_time(5.0)
                    ballast.unlink()
                    await asyncio.to_thread(own.start)
                await all.field.decides()
                await all.verify()
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
async def _injected(server: Server, what: str) -> AsyncIterator[None]:
    """Have strace do something to system calls of the server's processes, also of those that begin meanwhile."""
    if not shutil.which("strace"):
        pytest.fail("strace is missing: apt-get install strace")
    pids = [argument for pid in _processes(server.running()) for argument in ("-p", pid)]
    tracer = await asyncio.create_subprocess_exec(
        "strace",
        *("-f", "-q", "-e", "trace=fdatasync,pwrite64", "-e", what),
        *pids,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it ended with the server
            tracer.send_signal(signal.SIGINT)
        await tracer.wait()
