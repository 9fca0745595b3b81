"""What workers can run, and the default schedules they bring along."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One job type as a worker describes it."""

    worker: str
    description: str
    args_schema: dict[str, Any]
    queue: str
    priority: int
    max_attempts: int
    tags: list[str]
    timeout: timedelta | None
    uniqueness: dict[str, Any] | None
    schedule: dict[str, Any] | None
    redacted: list[str] = field(default_factory=list)


async def register(db: Database, types: Sequence[Registration], *, node: str) -> None:
    """Enter or replace job types."""
    await db.execute(
        """
        INSERT INTO qj_job_types
          (worker, description, args_schema, queue, priority, max_attempts, tags, timeout, uniqueness, schedule,
           redacted, registered_by)
        SELECT
          worker, description, args_schema, queue, priority, max_attempts, tags, timeout,
          nullif(uniqueness, 'null'), nullif(schedule, 'null'), redacted, $2
        FROM jsonb_to_recordset($1::text::jsonb) AS t (
          worker text, description text, args_schema jsonb, queue text, priority integer, max_attempts integer,
          tags text[], timeout interval, uniqueness jsonb, schedule jsonb, redacted text[]
        )
        ORDER BY worker
        ON CONFLICT (worker) DO UPDATE
        SET
          description = excluded.description, args_schema = excluded.args_schema, queue = excluded.queue,
          priority = excluded.priority, max_attempts = excluded.max_attempts, tags = excluded.tags,
          timeout = excluded.timeout, uniqueness = excluded.uniqueness, schedule = excluded.schedule,
          redacted = excluded.redacted, registered_at = clock_timestamp(), registered_by = excluded.registered_by
        """,
        json.dumps([_row(each) for each in types]),
        node,
    )


async def seed(db: Database, types: Sequence[Registration]) -> list[str]:
    """Make the default schedules that do not exist yet; their names. One that exists is left as it is."""
    rows = [
        {
            "worker": each.worker,
            "queue": each.queue,
            "priority": each.priority,
            "max_attempts": each.max_attempts,
            "description": each.description,
            **each.schedule,
        }
        for each in types
        if each.schedule is not None
    ]
    records = await db.fetch(
        """
        INSERT INTO qj_schedules
          (name, worker, cron, timezone, queue, priority, max_attempts, description, catchup, overlap, managed_by,
           updated_by)
        SELECT
          name, worker, cron, timezone, queue, priority, max_attempts, description, catchup, overlap, 'code', 'worker'
        FROM jsonb_to_recordset($1::text::jsonb) AS s (
          name text, worker text, cron text, timezone text, queue text, priority integer, max_attempts integer,
          description text, catchup text, overlap text
        )
        ORDER BY name
        ON CONFLICT (name) DO NOTHING
        RETURNING name
        """,
        json.dumps(rows),
    )
    return [record["name"] for record in records]


async def redacted(db: Database, workers: Collection[str]) -> dict[str, list[str]]:
    """Give the names of the args that no page may show, by worker; most have none."""
    records = await db.fetch(
        "SELECT worker, redacted FROM qj_job_types WHERE worker = ANY ($1) AND redacted <> '{}'",
        list(workers),
    )
    return {record["worker"]: record["redacted"] for record in records}


def _row(each: Registration) -> dict[str, Any]:
    return {
        "worker": each.worker,
        "description": each.description,
        "args_schema": each.args_schema,
        "queue": each.queue,
        "priority": each.priority,
        "max_attempts": each.max_attempts,
        "tags": each.tags,
        "timeout": each.timeout and f"{each.timeout.total_seconds():f} s",
        "uniqueness": each.uniqueness,
        "schedule": each.schedule,
        "redacted": each.redacted,
    }
