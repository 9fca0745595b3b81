"""What is set for each connection of ours, and where its tables are."""

from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from quarterjack.database import Connection, Database


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
