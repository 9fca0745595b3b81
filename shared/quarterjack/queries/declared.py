"""Schedules as a file declares them; the caller's transaction makes it all or nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from quarterjack.database import Database
from quarterjack.model import JobType, Schedule
from quarterjack.queries.schedules import DEFINED, to_job_type, to_schedule


async def read(db: Database, names: Sequence[str], source: str) -> list[Schedule]:
    """Give the schedules with these names, and those that the source manages, by name."""
    records = await db.fetch(
        """
        SELECT *
        FROM qj_schedules
        WHERE
          name = ANY ($1)
          OR (managed_by = 'file' AND id IN (SELECT schedule_id FROM qj_managed WHERE source = $2))
        ORDER BY name
        """,
        list(names),
        source,
    )
    return [to_schedule(record) for record in records]


async def hold(db: Database, names: Sequence[str], source: str) -> list[Schedule]:
    """Give what `read` gives, and keep others from editing it until the transaction ends."""
    records = await db.fetch(
        """
        SELECT *
        FROM qj_schedules
        WHERE
          name = ANY ($1)
          OR (managed_by = 'file' AND id IN (SELECT schedule_id FROM qj_managed WHERE source = $2))
        ORDER BY name
        FOR UPDATE
        """,
        list(names),
        source,
    )
    return [to_schedule(record) for record in records]


async def every(db: Database, names: Sequence[str]) -> list[Schedule]:
    """Give the schedules with these names, or all if none is named, by name."""
    records = await db.fetch(
        "SELECT * FROM qj_schedules WHERE cardinality($1::text[]) = 0 OR name = ANY ($1) ORDER BY name",
        list(names),
    )
    return [to_schedule(record) for record in records]


async def job_types(db: Database, workers: Sequence[str]) -> dict[str, JobType]:
    """Give those of the job types that workers have registered, by name."""
    records = await db.fetch("SELECT * FROM qj_job_types WHERE worker = ANY ($1)", list(workers))
    return {record["worker"]: to_job_type(record) for record in records}


async def make(
    db: Database, name: str, worker: str, row: Mapping[str, Any], *, paused: str | None, by: str
) -> Schedule | None:
    """Make a schedule that a file manages, paused if a reason is given; None if the name is taken."""
    record = await db.fetchrow(
        """
        INSERT INTO qj_schedules
          (name, worker, updated_by, paused_reason, paused_at, paused_by, managed_by, cron, timezone, dst, args, queue,
           priority, max_attempts, tags, catchup, catchup_window, catchup_limit, overlap, description, timeout,
           max_failures, expected_within, jitter, start_at, end_at, blackouts, calendars, uniqueness)
        VALUES
          ($1, $2, $3, nullif($4::text, ''), CASE WHEN $4 IS NOT NULL THEN clock_timestamp() END,
           CASE WHEN $4 IS NOT NULL THEN $3 END, 'file', $5, $6, $7, $8, $9,
           $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)
        ON CONFLICT (name) DO NOTHING
        RETURNING *
        """,
        name,
        worker,
        by,
        paused,
        *(row[name] for name in (*DEFINED, "uniqueness")),
    )
    return to_schedule(record) if record else None


async def replace(
    db: Database, id: int, worker: str, row: Mapping[str, Any], *, paused: str | None, by: str
) -> Schedule:
    """Replace all that defines a schedule that the caller holds; without a reason it is not paused."""
    record = await db.fetchrow(
        """
        UPDATE qj_schedules
        SET
          worker = $2, updated_by = $3, paused_reason = nullif($4::text, ''),
          paused_at = CASE WHEN $4 IS NOT NULL THEN coalesce(paused_at, clock_timestamp()) END,
          paused_by = CASE WHEN $4 IS NOT NULL THEN coalesce(paused_by, $3) END,
          resume_at = CASE WHEN $4 IS NOT NULL THEN resume_at END, managed_by = 'file',
          cron = $5, timezone = $6, dst = $7, args = $8, queue = $9, priority = $10, max_attempts = $11, tags = $12,
          catchup = $13, catchup_window = $14, catchup_limit = $15, overlap = $16, description = $17, timeout = $18,
          max_failures = $19, expected_within = $20, jitter = $21, start_at = $22, end_at = $23, blackouts = $24,
          calendars = $25, uniqueness = $26
        WHERE id = $1
        RETURNING *
        """,
        id,
        worker,
        by,
        paused,
        *(row[name] for name in (*DEFINED, "uniqueness")),
    )
    assert record is not None
    return to_schedule(record)
