"""Schedules and the catalogue as an admin sees and edits them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import asyncpg

from quarterjack.database import Database
from quarterjack.model import JobType, Schedule

COLUMNS = tuple(field.name for field in fields(Schedule))
TYPE_COLUMNS = tuple(field.name for field in fields(JobType))
DEFINED = (
    *("cron", "timezone", "dst", "args", "queue", "priority", "max_attempts", "tags", "catchup"),
    *("catchup_window", "catchup_limit", "overlap", "description", "timeout", "max_failures"),
    *("expected_within", "jitter", "start_at", "end_at", "blackouts", "calendars"),
)
"""What defines a schedule, in the order in which each statement writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of schedules, `more` follow; `all` exist, and `paused` of all are paused."""

    schedules: list[Schedule]
    more: bool
    all: int
    paused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A row of qj_schedule_versions."""

    version: int
    definition: dict[str, Any]
    author: str
    reason: str | None
    created_at: datetime


def to_schedule(record: asyncpg.Record) -> Schedule:
    """Make a typed row; needs a connection of ours (JSON codec)."""
    return Schedule(**{name: record[name] for name in COLUMNS})


async def page(db: Database, *, search: str, state: str, limit: int, offset: int) -> Listed:
    """List schedules by name; `state` is all, active, paused or late, `search` a part of some text."""
    records = await db.fetch(
        """
        SELECT *
        FROM qj_schedules
        WHERE
          (
            $1 = ''
            OR strpos(lower(concat_ws(' ', name, description, worker, queue, tags::text)), lower($1)) > 0
          )
          AND CASE $2
            WHEN 'active' THEN paused_at IS NULL
            WHEN 'paused' THEN paused_at IS NOT NULL
            WHEN 'late' THEN
              paused_at IS NULL
              AND (broken_reason IS NOT NULL OR next_run_at < clock_timestamp() - interval '5 seconds')
            ELSE true
          END
        ORDER BY name
        LIMIT $3 OFFSET $4
        """,
        search,
        state,
        limit + 1,
        offset,
    )
    counts = await db.fetchrow(
        "SELECT count(*) AS all, count(paused_at) AS paused FROM qj_schedules"
    )
    assert counts is not None
    return Listed(
        schedules=[to_schedule(record) for record in records[:limit]],
        more=len(records) > limit,
        all=counts["all"],
        paused=counts["paused"],
    )


async def find(db: Database, name: str) -> Schedule | None:
    """Read one schedule by name."""
    record = await db.fetchrow("SELECT * FROM qj_schedules WHERE name = $1", name)
    return to_schedule(record) if record else None


async def hold(db: Database, name: str) -> Schedule | None:
    """Read one schedule and keep others from editing it until the transaction ends."""
    record = await db.fetchrow("SELECT * FROM qj_schedules WHERE name = $1 FOR UPDATE", name)
    return to_schedule(record) if record else None


async def give_reason(db: Database, reason: str) -> None:
    """Say why the edits of this transaction are made; the version records it."""
    await db.execute("SELECT set_config('quarterjack.reason', $1, true)", reason)


async def update(db: Database, id: int, edit: Mapping[str, Any], *, by: str) -> Schedule | None:
    """Replace the definition of a schedule that the caller holds."""
    record = await db.fetchrow(
        """
        UPDATE qj_schedules
        SET
          cron = $3, timezone = $4, dst = $5, args = $6, queue = $7, priority = $8, max_attempts = $9,
          tags = $10, catchup = $11, catchup_window = $12, catchup_limit = $13, overlap = $14,
          description = $15, timeout = $16, max_failures = $17, expected_within = $18, jitter = $19,
          start_at = $20, end_at = $21, blackouts = $22, calendars = $23, updated_by = $2
        WHERE id = $1
        RETURNING *
        """,
        id,
        by,
        *(edit[name] for name in DEFINED),
    )
    return to_schedule(record) if record else None


async def add(
    db: Database, name: str, worker: str, edit: Mapping[str, Any], *, by: str
) -> Schedule | None:
    """Make a schedule; None if the name is taken. Uniqueness is the job type's."""
    record = await db.fetchrow(
        """
        INSERT INTO qj_schedules
          (name, worker, updated_by, cron, timezone, dst, args, queue, priority, max_attempts, tags,
           catchup, catchup_window, catchup_limit, overlap, description, timeout, max_failures, expected_within,
           jitter, start_at, end_at, blackouts, calendars, managed_by, uniqueness)
        SELECT
          $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
          'ui',
          (SELECT uniqueness FROM qj_job_types WHERE worker = $2)
        ON CONFLICT (name) DO NOTHING
        RETURNING *
        """,
        name,
        worker,
        by,
        *(edit[name] for name in DEFINED),
    )
    return to_schedule(record) if record else None


async def remove(db: Database, id: int) -> None:
    """Delete a schedule; its versions, ticks and jobs stay."""
    await db.execute("DELETE FROM qj_schedules WHERE id = $1", id)


async def versions(db: Database, schedule_id: int, *, limit: int) -> list[Version]:
    """List the newest versions of a schedule, newest first."""
    records = await db.fetch(
        """
        SELECT version, definition, author, reason, created_at
        FROM qj_schedule_versions
        WHERE schedule_id = $1
        ORDER BY version DESC
        LIMIT $2
        """,
        schedule_id,
        limit,
    )
    return [Version(**record) for record in records]


async def version(db: Database, schedule_id: int, number: int) -> Version | None:
    """Read one version, its durations in seconds."""
    record = await db.fetchrow(
        """
        SELECT
          version, author, reason, created_at,
          definition || jsonb_build_object(
            'catchup_window', extract(epoch FROM (definition ->> 'catchup_window')::interval),
            'timeout', extract(epoch FROM (definition ->> 'timeout')::interval),
            'expected_within', extract(epoch FROM (definition ->> 'expected_within')::interval),
            'jitter', extract(epoch FROM (definition ->> 'jitter')::interval)
          ) AS definition
        FROM qj_schedule_versions
        WHERE schedule_id = $1 AND version = $2
        """,
        schedule_id,
        number,
    )
    return Version(**record) if record else None


async def names_by_worker(db: Database, workers: Sequence[str]) -> dict[str, list[str]]:
    """Name the schedules of each worker, at most 20 each.

    Each worker's own are read and put in order: in the order of names all would be read for a worker that has few.
    """
    records = await db.fetch(
        """
        SELECT w.worker, s.name
        FROM unnest($1::text[]) AS w (worker)
        CROSS JOIN LATERAL (
          SELECT name
          FROM (SELECT name FROM qj_schedules WHERE worker = w.worker ORDER BY worker OFFSET 0) AS its
          ORDER BY name
          LIMIT 20
        ) AS s
        """,
        list(workers),
    )
    names: dict[str, list[str]] = {}
    for record in records:
        names.setdefault(record["worker"], []).append(record["name"])
    return names


async def job_types(
    db: Database, *, search: str = "", offset: int = 0, limit: int
) -> list[JobType]:
    """List what workers can run, by name; `search` is a part of some text."""
    records = await db.fetch(
        """
        SELECT *
        FROM qj_job_types
        WHERE $1 = '' OR strpos(lower(concat_ws(' ', worker, description, queue, tags::text)), lower($1)) > 0
        ORDER BY worker
        OFFSET $2
        LIMIT $3
        """,
        search,
        offset,
        limit,
    )
    return [to_job_type(record) for record in records]


async def job_type(db: Database, worker: str) -> JobType | None:
    """Read one job type; None if no worker has registered it."""
    record = await db.fetchrow("SELECT * FROM qj_job_types WHERE worker = $1", worker)
    return to_job_type(record) if record else None


def to_job_type(record: asyncpg.Record) -> JobType:
    """Make a typed row; needs a connection of ours (JSON codec)."""
    return JobType(**{name: record[name] for name in TYPE_COLUMNS})
