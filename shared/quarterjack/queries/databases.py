"""Make databases and drop them, and see where one's tables would go."""

from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from quarterjack.database import Connection, Database


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


async def end_with_client(db: "Database") -> None:
    """Have a session end within seconds of its client, even while it waits for a lock; not every server can.

    Who waits in vain connects anew, so that a table locked for minutes would use up all connections of the server.
    """
    with suppress(asyncpg.InvalidParameterValueError):
        await db.execute("SET client_connection_check_interval = '2s'")


async def compile_nothing(db: "Database") -> None:
    """Have statements interpreted: to compile one of ours takes longer than it runs, a second for each time."""
    await db.execute("SET jit = off")


async def clear(db: "Connection", reset: str) -> None:
    """Clear a session by `reset`, asyncpg's statements for that, but for what the functions above have set."""
    reset += "SET jit = off;"
    try:
        await db.execute(reset + "SET client_connection_check_interval = '2s'")
    except asyncpg.InvalidParameterValueError:
        await db.execute(reset)


async def schema(db: "Database") -> str | None:
    """Give the schema that unqualified names mean; None if it does not exist."""
    name: str | None = await db.fetchval("SELECT current_schema()")
    return name
