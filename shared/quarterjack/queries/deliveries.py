"""Messages about alerts on their way: at least once, by any replica.

Taking one moves its next attempt into the future, so that no lock is held while it is sent; a replica
that dies with it leaves it to the others.
"""

from dataclasses import dataclass
from datetime import timedelta

from quarterjack.database import Database
from quarterjack.queries.alerts import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one channel, leased to the caller; `event` is raised or resolved."""

    alert: Alert
    channel: str
    event: str
    attempts: int


async def take(db: Database, *, channel: str, lease: timedelta) -> Delivery | None:
    """Take the next message for a channel; None if none is due. The end waits for the beginning."""
    record = await db.fetchrow(
        """
        WITH due AS MATERIALIZED (
          SELECT d.alert_id, d.channel, d.event
          FROM qj_alert_deliveries AS d
          WHERE
            d.channel = $1
            AND d.delivered_at IS NULL
            AND d.next_attempt_at <= clock_timestamp()
            AND (
              d.event = 'raised'
              OR NOT EXISTS (
                SELECT
                FROM qj_alert_deliveries AS e
                WHERE
                  e.alert_id = d.alert_id AND e.channel = d.channel AND e.event = 'raised'
                  AND e.delivered_at IS NULL
              )
            )
          ORDER BY d.next_attempt_at, d.alert_id
          LIMIT 1
          FOR UPDATE OF d SKIP LOCKED
        ),
        taken AS (
          UPDATE qj_alert_deliveries AS d
          SET attempts = d.attempts + 1, next_attempt_at = clock_timestamp() + $2::interval
          FROM due
          WHERE d.alert_id = due.alert_id AND d.channel = due.channel AND d.event = due.event
          RETURNING d.alert_id, d.event, d.attempts
        )
        SELECT a.*, t.event, t.attempts
        FROM taken AS t
        JOIN qj_alerts AS a ON a.id = t.alert_id
        """,
        channel,
        lease,
    )
    if record is None:
        return None
    columns = dict(record)
    event, attempts = columns.pop("event"), columns.pop("attempts")
    return Delivery(alert=Alert(**columns), channel=channel, event=event, attempts=attempts)


async def delivered(db: Database, delivery: Delivery) -> None:
    """Note that the message has arrived, whoever holds it now."""
    await db.execute(
        """
        UPDATE qj_alert_deliveries
        SET delivered_at = clock_timestamp(), last_error = NULL
        WHERE alert_id = $1 AND channel = $2 AND event = $3 AND delivered_at IS NULL
        """,
        delivery.alert.id,
        delivery.channel,
        delivery.event,
    )


async def failed(db: Database, delivery: Delivery, *, error: str, again_in: timedelta) -> bool:
    """Say why the message did not arrive and when to try again; False if another replica holds it."""
    return bool(
        await db.fetchval(
            """
            UPDATE qj_alert_deliveries
            SET next_attempt_at = clock_timestamp() + $6::interval, last_error = $5
            WHERE
              alert_id = $1 AND channel = $2 AND event = $3 AND attempts = $4
              AND delivered_at IS NULL
            RETURNING true
            """,
            delivery.alert.id,
            delivery.channel,
            delivery.event,
            delivery.attempts,
            error,
            again_in,
        )
    )


async def prune(db: Database, *, age: timedelta) -> None:
    """Delete the alerts resolved longer ago than `age`, and what is remembered of removed schedules."""
    await db.execute(
        """
        WITH old AS (
          DELETE FROM qj_alerts WHERE resolved_at < clock_timestamp() - $1::interval
        )
        DELETE FROM qj_completions AS c
        WHERE NOT EXISTS (SELECT FROM qj_schedules AS s WHERE s.id = c.schedule_id)
        """,
        age,
    )
