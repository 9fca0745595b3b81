"""Decisions that the database acknowledged, and that an asynchronous failover then took back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quarterjack.database import Database
from quarterjack.queries.ticks import Struck


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A decision that is not in the ledger any more."""

    schedule_id: int
    tick_at: datetime
    job_id: int | None
    decided_at: datetime


async def report(db: Database, kept: Sequence[Struck], *, by: str) -> list[Lost]:
    """Record and give those of the acknowledged decisions that the ledger does not know.

    A decision is known by its instant: after a failover the ids of jobs are given out again.
    """
    records = await db.fetch(
        """
        INSERT INTO qj_lost_ticks (schedule_id, tick_at, job_id, decided_at, reported_by)
        SELECT k.schedule_id, k.tick_at, k.job_id, k.decided_at, $5
        FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::timestamptz[])
          AS k (schedule_id, tick_at, job_id, decided_at)
        WHERE NOT EXISTS (
          SELECT
          FROM qj_ticks AS t
          WHERE t.schedule_id = k.schedule_id AND t.tick_at = k.tick_at AND t.decided_at = k.decided_at
        )
        ON CONFLICT DO NOTHING
        RETURNING schedule_id, tick_at, job_id, decided_at
        """,
        [each.schedule_id for each in kept],
        [each.tick_at for each in kept],
        [each.job_id for each in kept],
        [each.decided_at for each in kept],
        by,
    )
    return [Lost(**record) for record in records]


async def recent(db: Database) -> int:
    """Count what was lost within a day, up to a thousand."""
    found: int = await db.fetchval(
        """
        SELECT count(*)
        FROM (
          SELECT FROM qj_lost_ticks WHERE reported_at > clock_timestamp() - interval '1 day' LIMIT 1000
        ) AS lost
        """
    )
    return found
