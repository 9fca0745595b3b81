"""Send on channels."""

from collections.abc import Sequence

from quarterjack.database import Database


async def send(db: Database, channel: str, payload: str) -> None:
    """Notify one channel; the payload is one JSON object of less than 8000 bytes."""
    await db.execute("SELECT pg_notify($1, $2)", channel, payload)


async def send_all(db: Database, messages: Sequence[tuple[str, str]]) -> None:
    """Notify channels of this schema, by name and payload, in one transaction that writes nothing."""
    await db.execute(
        """
        SELECT pg_notify(current_schema() || '.' || name, payload)
        FROM unnest($1::text[], $2::text[]) AS m (name, payload)
        """,
        [name for name, _ in messages],
        [payload for _, payload in messages],
    )


async def trim(db: Database) -> None:
    """Make the server forget what every listener has heard.

    It does so by itself only when somebody sends. A full queue takes nothing, so it would stay full for ever
    after whoever had not listened is gone; being asked how full it is has the same effect.
    """
    await db.execute("SELECT pg_notification_queue_usage()")
