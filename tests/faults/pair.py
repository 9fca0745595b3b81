"""A primary and its standby, the replication between them, and a Service that leads to whoever is primary."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from quarterjack import migrate
from quarterjack.database import Address, open_pool
from quarterjack_local.postgres import Server
from tests.conftest import SETTINGS, TestDatabase, execute
from tests.proxy import Proxy, opened, through
from tests.waiting import until

STREAMING = (
    "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1"
)


@dataclass(slots=True)
class Pair:
    """Two servers; `replication` and `service` are proxies that may be told to fail."""

    primary: Server
    standby: Server
    replication: Proxy
    service: Proxy

    async def fail_over(self) -> None:
        """Lose the primary with all that it has not sent, promote the standby, lead the Service to it."""
        await asyncio.to_thread(self.primary.stop, "immediate")
        await self.promote()
        await self.service.retarget(*host_and_port(self.standby))

    async def promote(self) -> None:
        await execute(self.standby, "SELECT pg_promote()")

    def log(self) -> str:
        """What the primary has logged."""
        return self.primary.data.with_name(f"{self.primary.data.name}.log").read_text()


def host_and_port(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url("postgres"))
    return parts.hostname or "", parts.port or 0


@asynccontextmanager
async def pair(
    directory: Path, bin_dir: Path, dice: random.Random, *, synchronous: bool
) -> AsyncIterator[tuple[Pair, TestDatabase]]:
    """Start both, wait until one follows the other; the database's address leads through the Service."""
    primary = Server(directory / "first", bin_dir=bin_dir, settings=SETTINGS)
    standby = Server(directory / "second", bin_dir=bin_dir, settings=SETTINGS)
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(primary.start)
        stack.callback(primary.stop, "immediate")
        own = primary.url("postgres")
        direct = Address(url=own, direct_url=own, schema="public")
        await migrate.apply(direct, optional=migrate.OPTIONAL)
        replication, port = await stack.enter_async_context(opened(*host_and_port(primary), dice))
        await asyncio.to_thread(_copy, standby, port)
        await asyncio.to_thread(standby.start)
        stack.callback(standby.stop, "immediate")
        if synchronous:
            await execute(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            await execute(primary, "SELECT pg_reload_conf()")
        await until(lambda: _follows(primary, "sync" if synchronous else "async"))
        service, port = await stack.enter_async_context(opened(*host_and_port(primary), dice))
        url = through(own, port)
        address = Address(url=url, direct_url=url, schema="public")
        pool = await stack.enter_async_context(open_pool(address, name="tests", size=10))
        yield (
            Pair(primary, standby, replication, service),
            TestDatabase(url=url, address=address, pool=pool, server=primary),
        )


def _copy(standby: Server, port: int) -> None:
    standby._run(
        "pg_basebackup",
        *("-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-D", str(standby.data)),
        *("-R", "-X", "stream", "-c", "fast"),
    )


async def _follows(primary: Server, how: str) -> bool:
    connection = await asyncpg.connect(primary.url("postgres"))
    try:
        return bool(await connection.fetchval(STREAMING, how))
    finally:
        await connection.close()
