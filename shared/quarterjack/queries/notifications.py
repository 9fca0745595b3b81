"""Send on a channel."""

from quarterjack.database import Database


async def send(db: Database, channel: str, payload: str) -> None:
    """Notify one channel; the payload is one JSON object of less than 8000 bytes."""
    await db.execute("SELECT pg_notify($1, $2)", channel, payload)
