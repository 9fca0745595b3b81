"""The tick: what is due, and the one fenced statement that decides it.

Invariants, each kept by one line below (reliability: compare-and-set, fence, never early):
  CAS    a schedule's watermark moves from the value that was read, under the version that was read, in the
         same transaction that writes its jobs and its ledger rows; so a repeated or delayed request moves nothing
  edit   the instant of the edit that was read must stand, too: a failover may lose an edit, and another then gets
         its version
  fence  the lease row is key-share-locked under (term, holder) for the whole statement; so no two terms interleave, and
         the lease is renewed all the same, however long that takes
  early  nothing is decided before its instant by the database's clock

A row that another session holds is passed over, and no other lock is waited for longer than a moment: the
ticks of other schedules must not wait for a forgotten transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A schedule whose watermark is near or past; `uniqueness` is its own or its job type's."""

    id: int
    name: str
    version: int
    updated_at: datetime
    worker: str
    cron: str
    timezone: str
    dst: str
    jitter: timedelta
    start_at: datetime | None
    end_at: datetime | None
    blackouts: list[str]
    calendars: list[str]
    args: dict[str, Any]
    queue: str
    priority: int
    max_attempts: int
    tags: list[str]
    uniqueness: dict[str, Any] | None
    catchup: str
    catchup_window: timedelta
    catchup_limit: int
    overlap: str
    timeout: timedelta | None
    next_run_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """One decided tick, as it was written to the ledger; `stopped` names running jobs that it cancelled."""

    schedule_id: int
    tick_at: datetime
    outcome: str
    reason: str | None
    job_id: int | None
    queue: str
    decided_at: datetime
    stopped: list[int]


async def due(
    db: Database, *, horizon: timedelta, grace: timedelta, limit: int, most_overdue: int
) -> list[Due]:
    """Give the schedules due within the horizon, the most overdue first.

    At most `limit`, and `most_overdue` of those that are overdue for longer than `grace`, however many there are.
    """
    records = await db.fetch(
        """
        WITH near AS (
          SELECT id
          FROM qj_schedules
          WHERE
            paused_at IS NULL AND broken_reason IS NULL
            AND next_run_at BETWEEN now() - $2::interval AND now() + $1::interval
          ORDER BY next_run_at
          LIMIT $3
        ),
        overdue AS (
          SELECT id
          FROM qj_schedules
          WHERE paused_at IS NULL AND broken_reason IS NULL AND next_run_at < now() - $2::interval
          ORDER BY next_run_at
          LIMIT $4
        )
        SELECT
          s.id, s.name, s.version, s.updated_at, s.worker, s.cron, s.timezone, s.dst, s.jitter, s.start_at, s.end_at,
          s.blackouts, s.calendars, s.args, s.queue, s.priority, s.max_attempts, s.tags,
          coalesce(s.uniqueness, t.uniqueness) AS uniqueness, s.catchup, s.catchup_window, s.catchup_limit,
          s.overlap, s.timeout, s.next_run_at
        FROM (TABLE near UNION ALL TABLE overdue) AS found
        JOIN qj_schedules AS s USING (id)
        LEFT JOIN qj_job_types AS t ON t.worker = s.worker
        ORDER BY s.next_run_at
        """,
        horizon,
        grace,
        limit,
        most_overdue,
    )
    return [Due(**record) for record in records]


async def strike(
    db: Database,
    *,
    holder: UUID,
    term: int,
    moves: Sequence[dict[str, Any]],
    decisions: Sequence[dict[str, Any]],
) -> tuple[bool, list[Struck]]:
    """Move watermarks, insert jobs and write the ledger, all or nothing; (fence held, what was decided).

    A schedule that was edited, paused or already decided gives no rows, and neither does one that another
    session holds or whose last decided tick still lies ahead of the database's clock. The joins of what one
    statement made are full ones, though nothing is without its like: the planner, which cannot know how many
    rows they have, would compare each with each.
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
          SELECT s.id, m.version, m.updated_at, m.expected_at, m.next_run_at, m.decided_until
          FROM
            fence,
            qj_schedules AS s,
            jsonb_to_recordset($3::text::jsonb) AS m (
              id bigint, version bigint, updated_at timestamptz, expected_at timestamptz, next_run_at timestamptz,
              decided_until timestamptz
            )
          WHERE s.id = m.id
          ORDER BY s.id
          FOR NO KEY UPDATE OF s SKIP LOCKED
        ),
        moved AS (
          UPDATE qj_schedules AS s
          SET next_run_at = m.next_run_at, last_tick_at = m.decided_until
          FROM free AS m
          WHERE
            s.id = m.id
            AND s.version = m.version
            AND s.updated_at = m.updated_at
            AND s.next_run_at = m.expected_at
            AND s.paused_at IS NULL
            AND m.decided_until <= clock_timestamp()
          RETURNING
            s.id, s.name, s.version, s.worker, s.args, s.queue, s.priority, s.max_attempts, s.tags, s.overlap,
            s.skip_tick_at, s.skip_by
        ),
        judged AS MATERIALIZED (
          SELECT
            s.*, d.tick_at, d.until_at, d.ticks, d.meta, d.unique_states, d.unique_period,
            CASE
              WHEN d.outcome <> 'enqueued' THEN d.outcome
              WHEN f.frozen THEN 'frozen'
              WHEN d.tick_at = s.skip_tick_at THEN 'skipped_once'
              ELSE d.outcome
            END AS outcome,
            CASE
              WHEN d.outcome <> 'enqueued' THEN d.reason
              WHEN f.frozen THEN format('everything was frozen by %s: %s', f.frozen_by, f.reason)
              WHEN d.tick_at = s.skip_tick_at THEN format('skipped by %s', s.skip_by)
              ELSE d.reason
            END AS reason
          FROM moved AS s
          JOIN jsonb_to_recordset($4::text::jsonb) AS d (
            schedule_id bigint, tick_at timestamptz, until_at timestamptz, ticks bigint, outcome text, reason text,
            meta jsonb, unique_states text[], unique_period interval
          ) ON d.schedule_id = s.id
          LEFT JOIN qj_freeze AS f ON true
        ),
        decided AS MATERIALIZED (
          SELECT g.*, g.meta ->> 'tick_id' AS tick_id, g.meta ->> 'qj_unique' AS unique_key, live.id AS live_id
          FROM judged AS g
          LEFT JOIN LATERAL (
            SELECT j.id
            FROM oban_jobs AS j
            WHERE
              g.outcome = 'enqueued'
              AND g.overlap IN ('skip', 'one_pending')
              AND (g.overlap = 'skip' OR j.state <> 'executing')
              AND j.meta ? 'cron_name'
              AND j.meta ->> 'cron_name' = g.name
              AND j.meta ->> 'trigger' IS DISTINCT FROM 'backfill'
              AND j.state IN ('suspended', 'available', 'scheduled', 'executing', 'retryable')
            LIMIT 1
          ) AS live ON true
        ),
        previous AS MATERIALIZED (
          SELECT j.id, j.state, d.id AS schedule_id
          FROM decided AS d
          JOIN oban_jobs AS j ON j.meta ->> 'cron_name' = d.name
          WHERE
            d.outcome = 'enqueued'
            AND d.overlap = 'cancel_previous'
            AND j.meta ? 'cron_name'
            AND j.meta ->> 'trigger' IS DISTINCT FROM 'backfill'
            AND j.state IN ('suspended', 'available', 'scheduled', 'executing', 'retryable')
          ORDER BY j.id
          FOR UPDATE OF j
        ),
        cancelled AS (
          UPDATE oban_jobs AS j
          SET
            state = 'cancelled', cancelled_at = timezone('UTC', clock_timestamp()),
            meta = j.meta - 'qj_unique' || '{"cancelled_by": "the next tick of its schedule"}'
          FROM previous AS p
          WHERE j.id = p.id
          RETURNING j.id, p.schedule_id, p.state = 'executing' AS ran
        ),
        expired AS MATERIALIZED (
          SELECT j.id
          FROM oban_jobs AS j
          JOIN decided AS d ON j.meta ->> 'qj_unique' = d.unique_key
          WHERE
            d.outcome = 'enqueued'
            AND j.meta ? 'qj_unique'
            AND NOT EXISTS (SELECT FROM previous AS p WHERE p.id = j.id)
            AND (
              NOT j.state::text = ANY (d.unique_states)
              OR j.inserted_at < timezone('UTC', clock_timestamp()) - d.unique_period
            )
          ORDER BY j.id
          FOR UPDATE OF j
        ),
        released AS (
          UPDATE oban_jobs AS j
          SET meta = j.meta - 'qj_unique'
          FROM expired AS e
          WHERE j.id = e.id
          RETURNING j.id
        ),
        inserted AS (
          INSERT INTO oban_jobs
            (state, worker, queue, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at)
          SELECT
            'available', d.worker, d.queue, d.args, d.meta, d.tags, d.priority, d.max_attempts,
            timezone('UTC', clock_timestamp()), timezone('UTC', d.tick_at)
          FROM decided AS d
          WHERE
            d.outcome = 'enqueued'
            AND d.live_id IS NULL
            AND (SELECT count(*) FROM released) + (SELECT count(*) FROM cancelled) >= 0
          ORDER BY d.unique_key, d.tick_at
          ON CONFLICT ((meta ->> 'qj_unique')) WHERE meta ? 'qj_unique' DO NOTHING
          RETURNING id, meta ->> 'tick_id' AS tick_id
        ),
        ledger AS (
          INSERT INTO qj_ticks
            (schedule_id, tick_at, until_at, ticks, outcome, reason, job_id, term, holder, version)
          SELECT
            d.id, d.tick_at, d.until_at, d.ticks,
            CASE
              WHEN d.outcome <> 'enqueued' OR i.id IS NOT NULL THEN d.outcome
              WHEN d.live_id IS NOT NULL THEN 'skipped_overlap'
              ELSE 'skipped_unique'
            END,
            CASE
              WHEN d.outcome <> 'enqueued' OR i.id IS NOT NULL THEN d.reason
              WHEN d.live_id IS NOT NULL THEN format('job %s of this schedule had not ended', d.live_id)
              ELSE 'an equal job was within its uniqueness'
            END,
            i.id, $2, $1, d.version
          FROM decided AS d
          FULL JOIN inserted AS i USING (tick_id)
          RETURNING schedule_id, tick_at, outcome, reason, job_id, decided_at
        )
        SELECT
          l.*, s.queue,
          ARRAY(SELECT c.id FROM cancelled AS c WHERE c.schedule_id = l.schedule_id AND c.ran) AS stopped
        FROM fence
        LEFT JOIN (ledger AS l FULL JOIN moved AS s ON s.id = l.schedule_id) ON true
        """,
        holder,
        term,
        json.dumps(moves),
        json.dumps(decisions),
    )
    return bool(records), [
        Struck(**record) for record in records if record["schedule_id"] is not None
    ]
