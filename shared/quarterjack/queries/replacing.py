"""A unique insert that replaces what it conflicts with, as long as that waits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """The fields of job `id` that are to become those of a later insert; `key` is the one they share."""

    id: int
    key: str
    fields: Sequence[str]
    args: str
    scheduled_at: datetime | None
    priority: int
    max_attempts: int
    tags: Sequence[str]


async def replace(db: Database, wanted: Sequence[Replacement]) -> set[int]:
    """Replace fields of jobs that wait and still hold their key; which. Wakes the queues of those that are due now.

    Rows are locked by id, so that two batches never wait for each other. One that a worker has taken meanwhile is left.
    """
    records = await db.fetch(
        """
        WITH wanted AS MATERIALIZED (
          SELECT *
          FROM jsonb_to_recordset($1::text::jsonb) AS w (
            id bigint, key text, fields text[], args jsonb, scheduled_at timestamptz, priority integer,
            max_attempts integer, tags text[]
          )
        ),
        held AS MATERIALIZED (
          SELECT j.id
          FROM oban_jobs AS j
          JOIN wanted AS w ON w.id = j.id
          WHERE j.meta ->> 'qj_unique' = w.key AND j.state IN ('available', 'scheduled', 'retryable')
          ORDER BY j.id
          FOR UPDATE OF j
        ),
        replaced AS (
          UPDATE oban_jobs AS j
          SET
            args = CASE WHEN 'args' = ANY (w.fields) THEN w.args ELSE j.args END,
            priority = CASE WHEN 'priority' = ANY (w.fields) THEN w.priority ELSE j.priority END,
            max_attempts = CASE
              WHEN 'max_attempts' = ANY (w.fields) THEN greatest(w.max_attempts, least(j.attempt, 2147483646) + 1)
              ELSE j.max_attempts
            END,
            tags = CASE WHEN 'tags' = ANY (w.fields) THEN w.tags ELSE j.tags END,
            state = CASE
              WHEN 'scheduled_at' <> ALL (w.fields) THEN j.state
              WHEN w.scheduled_at IS NULL THEN 'available'
              ELSE 'scheduled'
            END,
            scheduled_at = CASE
              WHEN 'scheduled_at' <> ALL (w.fields) THEN j.scheduled_at
              ELSE timezone('UTC', coalesce(w.scheduled_at, clock_timestamp()))
            END
          FROM held AS h
          JOIN wanted AS w ON w.id = h.id
          WHERE j.id = h.id
          RETURNING j.id, j.queue, j.state = 'available' AND 'scheduled_at' = ANY (w.fields) AS due
        ),
        rung AS MATERIALIZED (
          SELECT pg_notify(current_schema() || '.oban_insert', json_build_object('queue', queue)::text)
          FROM replaced
          WHERE due
          GROUP BY queue
        )
        SELECT id, (SELECT count(*) FROM rung) AS rung FROM replaced
        """,
        json.dumps([_row(each) for each in wanted]),
    )
    return {record["id"] for record in records}


def _row(wanted: Replacement) -> dict[str, Any]:
    at = wanted.scheduled_at
    return {
        "id": wanted.id,
        "key": wanted.key,
        "fields": list(wanted.fields),
        "args": json.loads(wanted.args),
        "scheduled_at": at and at.isoformat(),
        "priority": wanted.priority,
        "max_attempts": wanted.max_attempts,
        "tags": list(wanted.tags),
    }
