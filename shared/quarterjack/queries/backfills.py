"""Backfills: past ticks of a schedule, enqueued on purpose; asked for by an admin, made by the leader.

The calendar is that of the version which the dry run showed, so that a backfill makes what was asked for; what the
jobs are is the schedule's as it is now. Invariants, each kept by one line of `make`:
  CAS    the watermark moves from the value that was read, in the transaction that inserts the jobs
  fence  the lease row is key-share-locked under (term, holder), so no two terms interleave
  rate   nothing is made before the instant that the last step set, by the database's clock
  last   a tick of a backfill has one name, and the unique index on it refuses a second job
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """A row of qj_backfills as a person sees it."""

    id: int
    schedule_id: int
    version: int
    from_at: datetime
    to_at: datetime
    per_minute: int
    ticks: int
    made: int
    next_tick_at: datetime | None
    state: str
    requested_by: str
    reason: str
    requested_at: datetime
    ended_at: datetime | None
    ended_why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A backfill that goes on; without its schedule's version there is no cron, without the schedule no queue."""

    id: int
    schedule_id: int
    to_at: datetime
    per_minute: int
    next_tick_at: datetime
    wait: timedelta
    cron: str
    timezone: str
    dst: str
    jitter: timedelta
    start_at: datetime | None
    end_at: datetime | None
    blackouts: list[str]
    calendars: list[str]
    name: str
    version: int | None
    queue: str | None
    timeout: timedelta | None
    broken_reason: str | None


COLUMNS = tuple(field.name for field in fields(Backfill))


async def start(
    db: Database,
    *,
    request_id: str,
    schedule_id: int,
    version: int,
    from_at: datetime,
    to_at: datetime,
    per_minute: int,
    ticks: int,
    first: datetime,
    by: str,
    reason: str,
) -> int | None:
    """Start a backfill; None if this request started one before, or another of the schedule goes on."""
    id: int | None = await db.fetchval(
        """
        INSERT INTO qj_backfills
          (request_id, schedule_id, version, from_at, to_at, per_minute, ticks, next_tick_at, requested_by, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT DO NOTHING
        RETURNING id
        """,
        request_id,
        schedule_id,
        version,
        from_at,
        to_at,
        per_minute,
        ticks,
        first,
        by,
        reason,
    )
    return id


async def of_request(db: Database, request_id: str) -> int | None:
    """Find the backfill that a request started before."""
    id: int | None = await db.fetchval(
        "SELECT id FROM qj_backfills WHERE request_id = $1", request_id
    )
    return id


async def of_schedule(db: Database, schedule_id: int, *, limit: int) -> list[Backfill]:
    """List the backfills of a schedule, newest first."""
    records = await db.fetch(
        "SELECT * FROM qj_backfills WHERE schedule_id = $1 ORDER BY id DESC LIMIT $2",
        schedule_id,
        limit,
    )
    return [Backfill(**{name: record[name] for name in COLUMNS}) for record in records]


async def stop(db: Database, id: int, *, schedule_id: int, by: str) -> int | None:
    """Stop a backfill; how many jobs it has made, or None if it does not go on any more."""
    made: int | None = await db.fetchval(
        """
        UPDATE qj_backfills
        SET state = 'stopped', ended_at = clock_timestamp(), ended_why = format('stopped by %s', $3::text)
        WHERE id = $1 AND schedule_id = $2 AND state = 'running'
        RETURNING made
        """,
        id,
        schedule_id,
        by,
    )
    return made


async def running(db: Database, *, limit: int) -> list[Running]:
    """Give the backfills that go on, the one whose next step comes first; none while all is frozen."""
    records = await db.fetch(
        """
        SELECT
          b.id, b.schedule_id, b.to_at, b.per_minute, b.next_tick_at, b.next_step_at - clock_timestamp() AS wait,
          coalesce(v.definition ->> 'cron', '') AS cron, coalesce(v.definition ->> 'timezone', '') AS timezone,
          coalesce(v.definition ->> 'dst', '') AS dst,
          coalesce(v.definition ->> 'jitter', '0')::interval AS jitter,
          (v.definition ->> 'start_at')::timestamptz AS start_at, (v.definition ->> 'end_at')::timestamptz AS end_at,
          ARRAY(SELECT jsonb_array_elements_text(v.definition -> 'blackouts')) AS blackouts,
          ARRAY(SELECT jsonb_array_elements_text(v.definition -> 'calendars')) AS calendars,
          coalesce(s.name, '') AS name, s.version, s.queue, s.timeout, s.broken_reason
        FROM qj_backfills AS b
        LEFT JOIN qj_schedule_versions AS v ON v.schedule_id = b.schedule_id AND v.version = b.version
        LEFT JOIN qj_schedules AS s ON s.id = b.schedule_id
        WHERE b.state = 'running' AND NOT EXISTS (SELECT FROM qj_freeze)
        ORDER BY b.next_step_at
        LIMIT $1
        """,
        limit,
    )
    return [Running(**record) for record in records]


async def make(
    db: Database,
    *,
    holder: UUID,
    term: int,
    id: int,
    version: int,
    expected_at: datetime,
    next_tick_at: datetime | None,
    metas: Sequence[dict[str, Any]],
) -> tuple[bool, list[int]]:
    """Move the watermark and insert a job for each meta, or neither; (fence held, ids of the jobs).

    Without ids nothing moved: another step came first, the backfill was stopped, its schedule was edited or
    deleted, everything is frozen, it is too early, or another session holds the row.
    """
    records = await db.fetch(
        """
        WITH settings AS MATERIALIZED (
          SELECT set_config('quarterjack.rings_itself', 'yes', true), set_config('lock_timeout', '250ms', true)
        ),
        fence AS MATERIALIZED (
          SELECT
          FROM settings, qj_lease AS l
          WHERE l.name = 'scheduler' AND l.term = $2 AND l.holder = $1
          FOR KEY SHARE OF l
        ),
        free AS MATERIALIZED (
          SELECT b.id
          FROM fence, qj_backfills AS b
          WHERE b.id = $3
          FOR NO KEY UPDATE OF b SKIP LOCKED
        ),
        moved AS (
          UPDATE qj_backfills AS b
          SET
            made = b.made + jsonb_array_length($7::text::jsonb),
            next_tick_at = $6,
            next_step_at =
              clock_timestamp() + make_interval(secs => 60.0 * jsonb_array_length($7::text::jsonb) / b.per_minute),
            state = CASE WHEN $6::timestamptz IS NULL THEN 'done' ELSE 'running' END,
            ended_at = CASE WHEN $6::timestamptz IS NULL THEN clock_timestamp() END
          FROM free, qj_schedules AS s
          WHERE
            b.id = free.id
            AND b.state = 'running'
            AND b.next_tick_at = $5
            AND b.next_step_at <= clock_timestamp()
            AND s.id = b.schedule_id
            AND s.version = $4
            AND NOT EXISTS (SELECT FROM qj_freeze)
          RETURNING s.worker, s.queue, s.args, s.tags, s.priority, s.max_attempts
        ),
        inserted AS (
          INSERT INTO oban_jobs
            (state, worker, queue, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at)
          SELECT
            'available', m.worker, m.queue, m.args, j.meta, m.tags, m.priority, m.max_attempts,
            timezone('UTC', clock_timestamp()), timezone('UTC', clock_timestamp())
          FROM moved AS m, jsonb_array_elements($7::text::jsonb) WITH ORDINALITY AS j (meta, place)
          ORDER BY j.place
          RETURNING id
        )
        SELECT i.id
        FROM fence
        LEFT JOIN inserted AS i ON true
        ORDER BY i.id
        """,
        holder,
        term,
        id,
        version,
        expected_at,
        next_tick_at,
        json.dumps(metas),
    )
    return bool(records), [record["id"] for record in records if record["id"] is not None]


async def fail(db: Database, *, holder: UUID, term: int, id: int, why: str) -> bool:
    """End a backfill that cannot go on; False if it had ended, or this term has."""
    return bool(
        await db.fetchval(
            """
            WITH fence AS MATERIALIZED (
              SELECT FROM qj_lease WHERE name = 'scheduler' AND term = $2 AND holder = $1 FOR KEY SHARE
            )
            UPDATE qj_backfills AS b
            SET state = 'failed', ended_at = clock_timestamp(), ended_why = $4
            FROM (
              SELECT b.id
              FROM fence, qj_backfills AS b
              WHERE b.id = $3 AND b.state = 'running'
              FOR NO KEY UPDATE OF b SKIP LOCKED
            ) AS free
            WHERE b.id = free.id
            RETURNING true
            """,
            holder,
            term,
            id,
            why,
        )
    )
