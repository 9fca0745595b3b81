"""What the testing kit asks: which jobs wait, this one job now, and all times moved."""

from datetime import timedelta
from uuid import UUID

from quarterjack.database import Database, read_json
from quarterjack.model import Job
from quarterjack.queries.jobs import to_job


async def waiting(db: Database) -> list[Job]:
    """Give the jobs that nobody has claimed, oldest first; on any connection, with our codecs or without."""
    records = await db.fetch(
        """
        SELECT
          id, state::text, queue, worker, args::text, coalesce(meta, '{}')::text AS meta,
          coalesce(tags, '{}') AS tags, to_jsonb(errors)::text AS errors, attempt, max_attempts, priority,
          coalesce(attempted_by, '{}') AS attempted_by,
          timezone('UTC', greatest(least(inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
          timezone('UTC', greatest(least(scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
          CASE WHEN attempted_at BETWEEN '0001-01-03' AND '9999-01-01' THEN attempted_at END AS attempted_at,
          CASE WHEN completed_at BETWEEN '0001-01-03' AND '9999-01-01' THEN completed_at END AS completed_at,
          CASE WHEN cancelled_at BETWEEN '0001-01-03' AND '9999-01-01' THEN cancelled_at END AS cancelled_at,
          CASE WHEN discarded_at BETWEEN '0001-01-03' AND '9999-01-01' THEN discarded_at END AS discarded_at
        FROM oban_jobs
        WHERE state IN ('available', 'scheduled', 'suspended', 'retryable')
        ORDER BY id
        """
    )
    documents = ("args", "meta", "errors")
    return [
        to_job({**record, **{name: read_json(record[name]) for name in documents}})
        for record in records
    ]


async def claim_one(db: Database, id: int, *, producer: UUID, node: str, nonce: str) -> Job | None:
    """Claim a waiting job, due or not; None if it does not wait."""
    record = await db.fetchrow(
        """
        UPDATE oban_jobs
        SET
          state = 'executing',
          attempt = attempt + 1,
          attempted_at = timezone('UTC', clock_timestamp()),
          attempted_by = ARRAY[$2::text, $3::text, $4::text]
        WHERE id = $1 AND state IN ('available', 'scheduled', 'retryable') AND attempt < max_attempts
        RETURNING
          id, state::text, queue, worker, args, coalesce(meta, '{}') AS meta, coalesce(tags, '{}') AS tags,
          to_jsonb(errors) AS errors, attempt, max_attempts, priority, attempted_by,
          timezone('UTC', greatest(least(inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
          timezone('UTC', greatest(least(scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
          timezone('UTC', attempted_at) AS attempted_at,
          NULL::timestamptz AS completed_at, NULL::timestamptz AS cancelled_at, NULL::timestamptz AS discarded_at
        """,
        id,
        node,
        str(producer),
        nonce,
    )
    return to_job(record) if record else None


async def move_back(db: Database, by: timedelta) -> None:
    """Move all times of all jobs back."""
    await db.execute(
        """
        UPDATE oban_jobs
        SET
          inserted_at = inserted_at - $1::interval,
          scheduled_at = scheduled_at - $1::interval,
          attempted_at = attempted_at - $1::interval,
          completed_at = completed_at - $1::interval,
          cancelled_at = cancelled_at - $1::interval,
          discarded_at = discarded_at - $1::interval
        WHERE state <> 'executing'
        """,
        by,
    )


async def decodes_json(db: Database) -> bool:
    """Say whether this connection gives JSON as Python values, as those of `open_pool` do."""
    return bool(await db.fetchval("""SELECT '{"a": 1}'::jsonb""") == {"a": 1})
