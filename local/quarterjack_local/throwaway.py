"""Databases for tests: one migrated template on a server, and a copy of it for each test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from quarterjack import Address, migrate
from quarterjack.queries import databases
from quarterjack_local.postgres import Server

TEMPLATE = "template_quarterjack"
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""What makes a server faster whose data may be lost."""


async def make_template(server: Server) -> None:
    """Make the migrated database that `database` copies."""
    await databases.create(server.url("postgres"), TEMPLATE)
    await migrate.apply(_address(server, TEMPLATE), optional=migrate.OPTIONAL)


@asynccontextmanager
async def database(server: Server, *, template: str = TEMPLATE) -> AsyncIterator[Address]:
    """Give a database of its own, and drop it at the end with whoever is still connected."""
    name = f"test_{uuid4().hex[:12]}"
    await databases.copy(server.url("postgres"), name, template=template)
    try:
        yield _address(server, name)
    finally:
        await databases.drop(server.url("postgres"), name)


def _address(server: Server, name: str) -> Address:
    url = server.url(name)
    return Address(url=url, direct_url=url, schema="public")
