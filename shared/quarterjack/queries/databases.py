"""Make databases and drop them."""

import asyncpg


async def create(url: str, name: str) -> None:
    """Create the database unless it exists; `name` is a plain identifier."""
    if not name.isidentifier():
        raise ValueError(f"{name!r} is no plain identifier")
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


async def copy(url: str, name: str, *, template: str) -> None:
    """Create the database as a copy of another, to which nobody is connected; plain identifiers."""
    await _run(url, 'CREATE DATABASE "{}" TEMPLATE "{}"', name, template)


async def drop(url: str, name: str) -> None:
    """Drop the database, with whoever is still connected to it; `name` is a plain identifier."""
    await _run(url, 'DROP DATABASE "{}" WITH (FORCE)', name)


async def _run(url: str, statement: str, *names: str) -> None:
    """Run what takes no parameters: the names are checked and put in."""
    if wrong := [name for name in names if not name.isidentifier()]:
        raise ValueError(f"{wrong[0]!r} is no plain identifier")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement.format(*names))
    finally:
        await connection.close()
