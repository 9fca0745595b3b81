"""Make a database, and see where one's tables would go."""

from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from quarterjack.database import Database


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


async def schema(db: "Database") -> str | None:
    """Give the schema that unqualified names mean; None if it does not exist."""
    name: str | None = await db.fetchval("SELECT current_schema()")
    return name
