"""Ring the queues of jobs, stop them, read them."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from quarterjack.database import Database
from quarterjack.model import Job, JobState

FIRST, LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)


async def ring(db: Database, queues: Collection[str]) -> None:
    """Wake whoever works on these queues; in its own transaction, so it waits for no standby."""
    await db.execute(
        """
        SELECT pg_notify(current_schema() || '.oban_insert', json_build_object('queue', queue)::text)
        FROM unnest($1::text[]) AS queue
        """,
        list(queues),
    )


async def stop(db: Database, ids: Sequence[int]) -> None:
    """Ask whoever runs these jobs to stop them, as Oban does."""
    await db.execute(
        """
        SELECT
          pg_notify(
            current_schema() || '.oban_signal', json_build_object('action', 'pkill', 'job_id', id)::text
          )
        FROM unnest($1::bigint[]) AS id
        """,
        list(ids),
    )


async def find(db: Database, id: int) -> Job | None:
    """Read one job; None if it never existed or was pruned."""
    record = await db.fetchrow(
        """
        SELECT
          id, state::text, queue, worker, args, coalesce(meta, '{}') AS meta, coalesce(tags, '{}') AS tags,
          to_jsonb(errors) AS errors, attempt, max_attempts, priority,
          coalesce(attempted_by, '{}') AS attempted_by,
          timezone('UTC', greatest(least(inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
          timezone('UTC', greatest(least(scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
          CASE WHEN attempted_at BETWEEN '0001-01-03' AND '9999-01-01' THEN attempted_at END AS attempted_at,
          CASE WHEN completed_at BETWEEN '0001-01-03' AND '9999-01-01' THEN completed_at END AS completed_at,
          CASE WHEN cancelled_at BETWEEN '0001-01-03' AND '9999-01-01' THEN cancelled_at END AS cancelled_at,
          CASE WHEN discarded_at BETWEEN '0001-01-03' AND '9999-01-01' THEN discarded_at END AS discarded_at
        FROM oban_jobs
        WHERE id = $1
        """,
        id,
    )
    return to_job(record) if record else None


def to_job(record: asyncpg.Record | dict[str, Any]) -> Job:
    """Make a typed row of what any program may have written; needs a connection of ours (JSON codec)."""
    meta, errors = record["meta"], record["errors"]
    times = {key: within_calendar(value) for key, value in record.items() if key.endswith("_at")}
    return Job(
        **{
            **record,
            **times,
            "state": JobState(record["state"]),
            "attempted_by": [each for each in record["attempted_by"] if isinstance(each, str)],
            "meta": meta if isinstance(meta, dict) else {},
            "errors": objects(errors),
        }
    )


def objects(value: object) -> list[dict[str, Any]]:
    """Give the objects of a list, and nothing of anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def within_calendar(at: datetime | None) -> datetime | None:
    """Give an instant that every zone can show; infinity becomes the calendar's end."""
    if at is None:
        return None
    return min(max(at.replace(tzinfo=at.tzinfo or UTC), FIRST), LAST)
