"""Networks that lose packets, are slow, half open, or lead through a pooler (F16, F19, F20, F30)."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest

from tests.conftest import TestDatabase
from tests.faults.arena import Arena, arena
from tests.faults.evidence import CRONS
from tests.processes import free_port
from tests.proxy import through
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.nightly, pytest.mark.timeout(300)]
POOLER = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
auth_type = trust
auth_file = USERS
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
ignore_startup_parameters = search_path,extra_float_digits
unix_socket_dir =
"""
APPLIED = "SELECT applied_version = version FROM qj_schedules WHERE name = 'fault_1'"


async def test_f16_a_half_open_listener_is_noticed(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        leader = await field.leader()
        assert leader.proxy.forget(b"listener") == 1
        field.diary.note("half open", node=leader.name)
        await _edit(field, within=3.0)
        await until(lambda: _said(field, "listener lost its connection"), within=12.0)
        await _edit(field, within=3.0)
        await field.verify()


@pytest.mark.parametrize("percent", [5, 20])
async def test_f19_packets_are_lost(
    database: TestDatabase, tmp_path: Path, seed: int, percent: int
) -> None:
    """TCP sends them again, so that for a process a piece now and then takes long, and all behind it."""
    async with arena(database, tmp_path, seed=seed) as field:
        term = await field.term()
        async with field.trouble("lost packets", percent=percent):
            for replica in field.replicas.values():
                replica.proxy.loss = percent / 100
            await field.pass_time(20.0)
            changes = await field.term() - term
            field.diary.note("terms", number=changes)
            assert changes == 0 or percent > 5
            for replica in field.replicas.values():
                replica.proxy.loss = 0.0
        await field.decides()
        await field.verify()


async def test_f20_a_slow_network_makes_no_leaders_flap(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        term = await field.term()
        async with field.trouble("delay"):
            for replica in field.replicas.values():
                replica.proxy.delay = (0.05, 0.15)
            await field.pass_time(20.0)
            assert await field.term() <= term + 1
            for replica in field.replicas.values():
                replica.proxy.delay = (0.0, 0.0)
        await field.decides()
        await field.verify()


@pytest.mark.parametrize("listen", ["directly", "through the pooler"])
async def test_f30_a_transaction_pooler_lies_between(
    database: TestDatabase, tmp_path: Path, seed: int, listen: str
) -> None:
    """Who listens through it hears nothing, is told so, and still follows edits by looking."""
    async with _pooled(database) as url:
        direct = database.url if listen == "directly" else url
        async with arena(
            database,
            tmp_path,
            seed=seed,
            DATABASE_URL=url,
            DATABASE_DIRECT_URL=direct,
            QUARTERJACK_STATEMENT_CACHE="0",
        ) as field:
            field.pooled = True
            await _edit(field, within=3.0)
            if listen == "directly":
                await field.pass_time(3.0)
            else:
                await until(lambda: _said(field, "listener lost its connection"), within=12.0)
            await field.kill(await field.leader())
            await field.decides()
            await field.verify()


async def _edit(field: Arena, *, within: float) -> None:
    cron = field.dice.choice(CRONS[1:])
    await field.database.pool.execute(
        "UPDATE qj_schedules SET cron = $1, description = description || '.', updated_by = 'nemesis' "
        "WHERE name = 'fault_1'",
        cron,
    )
    await until(lambda: field.ask(APPLIED), within=within)


async def _said(field: Arena, words: str) -> bool:
    return any(words in line for line in field.said())


@asynccontextmanager
async def _pooled(database: TestDatabase) -> AsyncIterator[str]:
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not os.access(program, os.X_OK):
        pytest.skip("pgbouncer is missing: apt-get install pgbouncer")
    parts, port = urlsplit(database.url), free_port()
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with TemporaryDirectory() as place:
        settings = _write(place, POOLER.format(host=parts.hostname, port=parts.port, own=port))
        pooler = await asyncio.create_subprocess_exec(
            *(as_nobody if os.geteuid() == 0 else ()), program, "--quiet", str(settings)
        )
        try:
            await until(lambda: _listens(port))
            yield through(database.url, port)
        finally:
            if pooler.returncode is None:
                pooler.terminate()
            await pooler.wait()


def _write(place: str, text: str) -> Path:
    """Write the settings where another user may read them."""
    os.chmod(place, 0o755)  # noqa: S103 - it holds nothing else
    settings, users = Path(place, "pgbouncer.ini"), Path(place, "users")
    settings.write_text(text.replace("USERS", str(users)))
    users.write_text('"postgres" ""\n')
    return settings


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
