"""Databases that are shared with oban-py, made by either."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from quarterjack import migrate
from quarterjack.database import open_pool
from tests.conftest import TestDatabase
from tests.interop.environment import install_sql, newer_python

NEEDING = {"shared", "newer"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs oban-py where there is no Python for it."""
    if newer_python() is None:
        late = [item for item in items if NEEDING & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=late)
        items[:] = [item for item in items if item not in late]


@pytest.fixture
def newer() -> str | None:
    """The Python that runs oban-py."""
    return newer_python()


@pytest.fixture(params=["elixir", "oban_py"])
async def shared(
    request: pytest.FixtureRequest, empty_database: TestDatabase
) -> AsyncIterator[TestDatabase]:
    """Elixir's layout in a schema of its own with oban-py's set-up run on top, or oban-py's own under ours."""
    elixir = request.param == "elixir"
    address = replace(empty_database.address, schema="platform" if elixir else "public")
    await empty_database.pool.execute("CREATE SCHEMA platform")
    script = await asyncio.to_thread(install_sql, address.schema)
    async with open_pool(address, name="tests", size=10) as pool:
        if elixir:
            await migrate.apply(address)
            await pool.execute(script)
        else:
            await pool.execute(script)
            await migrate.apply(address)
        await migrate.check(pool)
        yield replace(empty_database, address=address, pool=pool)
