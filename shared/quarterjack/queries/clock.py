"""The database's clock, by which everything is due."""

from datetime import datetime

from quarterjack.database import Database


async def now(db: Database) -> datetime:
    """Read it; an aware instant."""
    at: datetime = await db.fetchval("SELECT clock_timestamp()")
    return at
