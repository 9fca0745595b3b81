"""Make a database."""

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
