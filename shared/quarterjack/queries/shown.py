"""Jobs as pages show them: whatever a row holds, what is read of it is small. What is left out is written as "…"."""

from collections.abc import Sequence
from dataclasses import dataclass

from quarterjack.database import Database
from quarterjack.model import Job
from quarterjack.queries.jobs import to_job

LARGEST = 64_000
ERRORS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A job with its newest ERRORS errors; of args and meta with more than LARGEST bytes, only short entries.

    `errors` is how many there are, the sizes are those of the whole.
    """

    job: Job
    errors: int
    args_size: int
    meta_size: int


async def read(db: Database, ids: Sequence[int]) -> list[Job]:
    """Read rows of a list, in the order of their ids: without long args, and of the errors the last one's beginning."""
    records = await db.fetch(
        """
        SELECT
          id, state::text, queue, worker,
          CASE
            WHEN pg_column_size(args) <= 8000 AND octet_length(args::text) <= 8000 THEN args ELSE '"…"'
          END AS args,
          CASE
            WHEN pg_column_size(meta) <= 8000 AND octet_length(meta::text) <= 8000 THEN meta
            WHEN jsonb_typeof(meta) = 'object'
            THEN (
              SELECT jsonb_object_agg(key, value)
              FROM jsonb_each(meta)
              WHERE
                key IN ('cron', 'trigger', 'triggered_by', 'backfill_id', 'warning', 'qj_workflow')
                AND octet_length(value::text) <= 8000
            )
          END AS meta,
          coalesce(tags, '{}') AS tags,
          (
            SELECT jsonb_build_array(jsonb_build_object('error', left(e ->> 'error', 2000)))
            FROM (SELECT to_jsonb(errors) -> -1 AS e) AS last
            WHERE jsonb_typeof(e) = 'object'
          ) AS errors,
          attempt, max_attempts, priority, coalesce(attempted_by, '{}') AS attempted_by,
          timezone('UTC', greatest(least(inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
          timezone('UTC', greatest(least(scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
          CASE WHEN attempted_at BETWEEN '0001-01-03' AND '9999-01-01' THEN attempted_at END AS attempted_at,
          CASE WHEN completed_at BETWEEN '0001-01-03' AND '9999-01-01' THEN completed_at END AS completed_at,
          CASE WHEN cancelled_at BETWEEN '0001-01-03' AND '9999-01-01' THEN cancelled_at END AS cancelled_at,
          CASE WHEN discarded_at BETWEEN '0001-01-03' AND '9999-01-01' THEN discarded_at END AS discarded_at
        FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, place)
        JOIN oban_jobs USING (id)
        ORDER BY place
        """,
        list(ids),
    )
    return [to_job(record) for record in records]


async def find(db: Database, id: int) -> Shown | None:
    """Read one job for its page; None if it never existed or was pruned."""
    record = await db.fetchrow(
        """
        SELECT
          id, state::text, queue, worker,
          CASE
            WHEN args_size <= $2 THEN args
            WHEN jsonb_typeof(args) <> 'object' THEN '"…"'
            ELSE (
              SELECT
                jsonb_object_agg(key, CASE WHEN octet_length(value::text) <= 2000 THEN value ELSE '"…"' END)
              FROM (SELECT key, value FROM jsonb_each(args) WHERE octet_length(key) <= 200 LIMIT 100) AS e
            )
          END AS args,
          CASE
            WHEN meta_size <= $2 THEN meta
            WHEN jsonb_typeof(meta) = 'object'
            THEN (
              SELECT
                jsonb_object_agg(key, CASE WHEN octet_length(value::text) <= 2000 THEN value ELSE '"…"' END)
              FROM (SELECT key, value FROM jsonb_each(meta) WHERE octet_length(key) <= 200 LIMIT 100) AS e
            )
          END AS meta,
          coalesce(tags, '{}') AS tags,
          (
            SELECT
              jsonb_agg(
                jsonb_strip_nulls(
                  jsonb_build_object(
                    'attempt', left(e ->> 'attempt', 20), 'at', left(e ->> 'at', 40),
                    'error', left(e ->> 'error', 20000)
                  )
                )
                ORDER BY place
              )
            FROM (
              SELECT e, place
              FROM jsonb_array_elements(every_error) WITH ORDINALITY AS each (e, place)
              WHERE jsonb_typeof(e) = 'object'
              ORDER BY place DESC
              LIMIT $3
            ) AS newest
          ) AS errors,
          attempt, max_attempts, priority, coalesce(attempted_by, '{}') AS attempted_by,
          timezone('UTC', greatest(least(inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
          timezone('UTC', greatest(least(scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
          CASE WHEN attempted_at BETWEEN '0001-01-03' AND '9999-01-01' THEN attempted_at END AS attempted_at,
          CASE WHEN completed_at BETWEEN '0001-01-03' AND '9999-01-01' THEN completed_at END AS completed_at,
          CASE WHEN cancelled_at BETWEEN '0001-01-03' AND '9999-01-01' THEN cancelled_at END AS cancelled_at,
          CASE WHEN discarded_at BETWEEN '0001-01-03' AND '9999-01-01' THEN discarded_at END AS discarded_at,
          jsonb_array_length(every_error) AS number, args_size, meta_size
        FROM oban_jobs
        CROSS JOIN LATERAL (
          SELECT
            octet_length(args::text) AS args_size, coalesce(octet_length(meta::text), 0) AS meta_size,
            CASE jsonb_typeof(to_jsonb(errors)) WHEN 'array' THEN to_jsonb(errors) ELSE '[]' END AS every_error
        ) AS whole
        WHERE id = $1
        """,
        id,
        LARGEST,
        ERRORS,
    )
    if record is None:
        return None
    values = dict(record)
    number, args_size, meta_size = (values.pop(key) for key in ("number", "args_size", "meta_size"))
    return Shown(job=to_job(values), errors=number, args_size=args_size, meta_size=meta_size)
