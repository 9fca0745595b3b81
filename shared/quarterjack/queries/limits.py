"""Limits of a queue over all nodes: jobs at once and jobs in a time, each value of an args key for itself."""

from dataclasses import dataclass
from datetime import timedelta

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """At most `global_limit` jobs at once; at most `rate_burst` at once and then `rate_limit` in each `rate_period`.

    With `partition_by`, for each value of that key of args, by its first 500 characters: an index takes no more.
    """

    global_limit: int | None = None
    rate_limit: int | None = None
    rate_period: timedelta | None = None
    rate_burst: int | None = None
    partition_by: str | None = None


async def read(db: Database, queue: str) -> Limits:
    """Read the limits of a queue."""
    record = await db.fetchrow(
        """
        SELECT global_limit, rate_limit, rate_period, rate_burst, partition_by
        FROM qj_queues
        WHERE queue = $1 AND node = ''
        """,
        queue,
    )
    return Limits(**record) if record else Limits()


async def limit(db: Database, queue: str, limits: Limits, *, by: str, reason: str) -> None:
    """Set the limits of a queue, all of them. Claims read them; that there are some, workers learn within a second.

    It counts as a claim, so that one that has read the earlier limits takes nothing by them.
    """
    await db.execute(
        """
        INSERT INTO qj_queues AS q
          (queue, global_limit, rate_limit, rate_period, rate_burst, partition_by, changed_by, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (queue, node) DO UPDATE SET
          global_limit = $2, rate_limit = $3, rate_period = $4, rate_burst = $5, partition_by = $6,
          changed_at = clock_timestamp(), changed_by = $7, reason = $8, claims = q.claims + 1
        """,
        queue,
        limits.global_limit,
        limits.rate_limit,
        limits.rate_period,
        limits.rate_burst,
        limits.partition_by,
        by,
        reason,
    )
    await forgive(db)


async def forgive(db: Database) -> None:
    """Let nothing wait for longer than a whole burst takes, whatever an earlier rate let start, or a clock set back."""
    await db.execute(
        """
        UPDATE qj_rates AS r
        SET free_at = q.whole_at
        FROM (
          SELECT queue, clock_timestamp() + coalesce(rate_burst, rate_limit) * rate_period / rate_limit AS whole_at
          FROM qj_queues
          WHERE node = ''
        ) AS q
        WHERE r.queue = q.queue AND r.free_at > q.whole_at AND r.free_at > now()
        """
    )


async def forget_rates(db: Database) -> None:
    """Delete what says nothing any more."""
    await db.execute("DELETE FROM qj_rates WHERE free_at < clock_timestamp() - interval '1 minute'")
