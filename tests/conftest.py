"""Throw-away servers, one migrated template each, and a fresh database for every test."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import hypothesis
import pytest

from quarterjack import migrate
from quarterjack.database import Address, Pool, open_pool
from quarterjack_local import throwaway
from quarterjack_local.postgres import Binaries, Server, find_binaries
from tests.interop.environment import newer_python

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "max_connections": "200",
    "timezone": "Pacific/Auckland",
    "log_statement": "none",
}
TESTED = ("18", "15")

hypothesis.settings.register_profile("quarterjack", deadline=None)
hypothesis.settings.load_profile("quarterjack")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDatabase:
    """A migrated database of its own."""

    __test__ = False

    url: str
    address: Address
    pool: Pool
    server: Server

    async def row(self, statement: str, *arguments: object) -> asyncpg.Record:
        """Read the one row that must be there."""
        record = await self.pool.fetchrow(statement, *arguments)
        assert record is not None
        return record


def binaries() -> list[Binaries]:
    """The newest and the oldest supported Postgres, where they are installed."""
    found = {str(each.version): each for each in reversed(find_binaries())}
    return [found[version] for version in TESTED if version in found]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgres", choices=TESTED, help="test on this major version only")
    parser.addoption("--seed", type=int, help="repeat the faults of an earlier run")
    parser.addoption("--nightly", action="store_true", help="the faults that take long as well")
    parser.addoption("--soak", type=float, metavar="MINUTES", help="the soak as well, for so long")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = secrets.randbelow(10**6)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.line(f"faults are repeated by --seed {terminalreporter.config.option.seed}")
    if newer_python() is None:
        terminalreporter.line("oban-py was left out: it needs a Python 3.12 or later beside ours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = {
        "nightly": config.getoption("nightly"),
        "soak": config.getoption("soak"),
        "root": os.geteuid() == 0,
        "linux": sys.platform == "linux",
    }
    for marker in (name for name, runs in wanted.items() if not runs):
        left = [item for item in items if item.get_closest_marker(marker)]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("--postgres")
    chosen = [b for b in binaries() if wanted in (None, str(b.version))]
    if wanted is None and metafunc.definition.get_closest_marker("newest_postgres"):
        chosen = chosen[:1]
    if not chosen:
        raise pytest.UsageError("no Postgres to test on: run through ./dev test")
    metafunc.parametrize(
        "server", chosen, indirect=True, scope="session", ids=[f"pg{b.version}" for b in chosen]
    )


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    chosen: Binaries = request.param
    with throwaway.server(bin_dir=chosen.path, settings=SETTINGS) as started:
        asyncio.run(throwaway.make_template(started))
        yield started


@pytest.fixture(scope="session")
def quarterjack_server(server: Server) -> Server:
    """The fixtures that Quarterjack offers to others, on each of our servers."""
    return server


@pytest.fixture
async def database(server: Server) -> AsyncIterator[TestDatabase]:
    async with fresh_database(server, template=throwaway.TEMPLATE) as made:
        yield made


@pytest.fixture
async def empty_database(server: Server) -> AsyncIterator[TestDatabase]:
    async with fresh_database(server, template="template0") as made:
        yield made


@asynccontextmanager
async def fresh_database(server: Server, *, template: str) -> AsyncIterator[TestDatabase]:
    async with (
        throwaway.database(server, template=template) as address,
        open_pool(address, name="tests", size=10) as pool,
    ):
        yield TestDatabase(url=address.url, address=address, pool=pool, server=server)


async def execute(server: Server, statement: str) -> None:
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def own_server_database(server: Server) -> AsyncIterator[TestDatabase]:
    """A migrated database on a server that the test may restart."""
    settings = SETTINGS | {"fsync": "on", "full_page_writes": "on"}
    with throwaway.server(bin_dir=server.bin_dir, settings=settings) as own:
        url = own.url("postgres")
        address = Address(url=url, direct_url=url, schema="public")
        await migrate.apply(address, optional=migrate.OPTIONAL)
        async with open_pool(address, name="tests", size=10) as pool:
            yield TestDatabase(url=url, address=address, pool=pool, server=own)
