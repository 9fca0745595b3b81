"""Fixtures for pytest: one embedded server for the session, a migrated database for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from quarterjack import Address, open_pool
from quarterjack.database import Pool
from quarterjack_local import throwaway
from quarterjack_local.postgres import Server


@pytest.fixture(scope="session")
def quarterjack_server() -> Iterator[Server]:
    """A Postgres that starts with the first test that needs it."""
    with throwaway.server() as server:
        asyncio.run(throwaway.make_template(server))
        yield server


@pytest_asyncio.fixture
async def quarterjack_address(quarterjack_server: Server) -> AsyncIterator[Address]:
    """A migrated database that only this test uses; `url` is for whoever connects himself."""
    async with throwaway.database(quarterjack_server) as address:
        yield address


@pytest_asyncio.fixture
async def quarterjack_pool(quarterjack_address: Address) -> AsyncIterator[Pool]:
    """A pool on that database."""
    async with open_pool(quarterjack_address, name="tests", size=10) as pool:
        yield pool
