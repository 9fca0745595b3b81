"""Schedules that need a person: late, or paused because they kept failing.

Every replica may run each of these at any time, several at once: a unique index decides who raises an alert.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A row of qj_alerts; `kind` is undecided, uncompleted or paused."""

    id: int
    schedule_id: int
    schedule: str
    tick_at: datetime
    kind: str
    message: str
    raised_at: datetime
    resolved_at: datetime | None
    resolution: str | None


async def note_completions(db: Database) -> None:
    """Remember the last completed run of each schedule, before its job is pruned."""
    await db.execute(
        """
        INSERT INTO qj_completions AS c (schedule_id, job_id, completed_at)
        SELECT DISTINCT ON (s.id) s.id, j.id, timezone('UTC', j.completed_at)
        FROM oban_jobs AS j
        JOIN qj_schedules AS s ON s.name = j.meta ->> 'cron_name'
        WHERE
          (
            EXISTS (SELECT FROM qj_schedules WHERE expected_within IS NOT NULL AND paused_at IS NULL)
            OR EXISTS (SELECT FROM qj_schedules WHERE max_failures IS NOT NULL AND paused_at IS NULL)
            OR EXISTS (SELECT FROM qj_alerts WHERE resolved_at IS NULL)
          )
          AND j.state = 'completed'
          AND j.meta ? 'cron_name'
          AND j.meta ->> 'trigger' IS DISTINCT FROM 'backfill'
          AND j.completed_at <= timezone('UTC', clock_timestamp())
          AND j.completed_at > coalesce(
            (
              SELECT timezone('UTC', least(completed_at, clock_timestamp()) - interval '1 minute')
              FROM qj_completions
              ORDER BY completed_at DESC
              LIMIT 1
            ),
            '-infinity'
          )
        ORDER BY s.id, j.completed_at DESC
        ON CONFLICT (schedule_id) DO UPDATE
        SET job_id = excluded.job_id, completed_at = excluded.completed_at
        WHERE excluded.completed_at > c.completed_at
        """
    )


async def raise_late(db: Database, *, channels: Sequence[str], limit: int) -> list[Alert]:
    """Raise an alert for each schedule whose run is overdue, to be told to the channels.

    Overdue is a tick that nobody has decided, or one without a run that completed since, once
    `expected_within` has passed. Nothing is raised for a schedule whose last such alert is open,
    and nothing at all while everything is frozen.
    """
    records = await db.fetch(
        """
        WITH late AS (
          SELECT
            s.id, s.name, s.expected_within, s.next_run_at AS tick_at, 'undecided' AS kind,
            coalesce('it is set aside: ' || s.broken_reason, 'no scheduler has decided it') AS detail
          FROM qj_schedules AS s
          WHERE
            s.expected_within IS NOT NULL
            AND s.paused_at IS NULL
            AND s.next_run_at < clock_timestamp()
            AND s.next_run_at < clock_timestamp() - s.expected_within
          UNION ALL
          SELECT
            s.id, s.name, s.expected_within, t.tick_at, 'uncompleted',
            CASE
              WHEN t.outcome <> 'enqueued' THEN t.reason
              WHEN j.id IS NULL THEN format('job %s is gone', t.job_id)
              ELSE format('job %s is %s, attempt %s of %s', j.id, j.state, j.attempt, j.max_attempts)
            END
          FROM qj_schedules AS s
          LEFT JOIN qj_completions AS c ON c.schedule_id = s.id
          CROSS JOIN LATERAL (
            SELECT tick_at, outcome, reason, job_id
            FROM qj_ticks
            WHERE
              schedule_id = s.id
              AND tick_at >= s.planned_from
              AND tick_at > coalesce(c.completed_at, '-infinity')
              AND tick_at < clock_timestamp() - s.expected_within
              AND outcome IN ('enqueued', 'skipped_missed', 'skipped_window')
            ORDER BY tick_at DESC
            LIMIT 1
          ) AS t
          LEFT JOIN oban_jobs AS j ON j.id = t.job_id
          WHERE
            s.expected_within IS NOT NULL
            AND s.paused_at IS NULL
            AND s.last_tick_at > coalesce(c.completed_at, '-infinity')
            AND coalesce(c.completed_at, s.planned_from) < clock_timestamp() - s.expected_within
        ),
        raised AS (
          INSERT INTO qj_alerts (schedule_id, schedule, tick_at, kind, message)
          SELECT DISTINCT ON (l.id)
            l.id, l.name, l.tick_at, l.kind,
            format(
              '%s: no run has completed since the tick of %s UTC, one was expected within %s: %s',
              l.name, to_char(timezone('UTC', l.tick_at), 'YYYY-MM-DD HH24:MI:SS'), l.expected_within, l.detail
            )
          FROM late AS l
          WHERE
            NOT EXISTS (SELECT FROM qj_freeze)
            AND NOT EXISTS (
              SELECT
              FROM qj_alerts AS a
              WHERE a.schedule_id = l.id AND a.resolved_at IS NULL AND a.kind <> 'paused'
            )
          ORDER BY l.id, l.tick_at
          LIMIT $2
          ON CONFLICT DO NOTHING
          RETURNING *
        ),
        told AS (
          INSERT INTO qj_alert_deliveries (alert_id, channel, event)
          SELECT r.id, c.channel, 'raised'
          FROM raised AS r
          CROSS JOIN unnest($1::text[]) AS c (channel)
        )
        SELECT * FROM raised ORDER BY id
        """,
        list(channels),
        limit,
    )
    return [Alert(**record) for record in records]


async def resolve(db: Database) -> list[Alert]:
    """Close the alerts whose schedule has completed a run since, is gone or is expected no more.

    One for an undecided tick stays open until that is decided, one for a pause until it ends.
    """
    records = await db.fetch(
        """
        WITH over AS MATERIALIZED (
          SELECT
            a.id,
            CASE
              WHEN s.id IS NULL THEN format('%s: the schedule was removed', a.schedule)
              WHEN c.completed_at >= a.tick_at THEN format(
                '%s: job %s completed at %s UTC', a.schedule, c.job_id,
                to_char(timezone('UTC', c.completed_at), 'YYYY-MM-DD HH24:MI:SS')
              )
              ELSE format('%s: no run is expected any more', a.schedule)
            END AS resolution
          FROM qj_alerts AS a
          LEFT JOIN qj_schedules AS s ON s.id = a.schedule_id
          LEFT JOIN qj_completions AS c ON c.schedule_id = a.schedule_id
          WHERE
            a.resolved_at IS NULL
            AND CASE
              WHEN s.id IS NULL THEN true
              WHEN a.kind = 'paused' THEN s.paused_at IS NULL AND c.completed_at >= a.tick_at
              WHEN s.expected_within IS NULL THEN true
              WHEN a.kind = 'undecided' AND s.next_run_at = a.tick_at THEN false
              ELSE c.completed_at >= a.tick_at
            END
          ORDER BY a.id
          FOR UPDATE OF a SKIP LOCKED
        ),
        resolved AS (
          UPDATE qj_alerts AS a
          SET resolved_at = clock_timestamp(), resolution = over.resolution
          FROM over
          WHERE a.id = over.id AND a.resolved_at IS NULL
          RETURNING a.*
        ),
        told AS (
          INSERT INTO qj_alert_deliveries (alert_id, channel, event)
          SELECT d.alert_id, d.channel, 'resolved'
          FROM resolved AS r
          JOIN qj_alert_deliveries AS d ON d.alert_id = r.id AND d.event = 'raised'
          ON CONFLICT DO NOTHING
        )
        SELECT * FROM resolved ORDER BY id
        """
    )
    return [Alert(**record) for record in records]


async def pause_failing(db: Database, *, channels: Sequence[str]) -> list[Alert]:
    """Pause the schedules whose newest `max_failures` ended jobs were all discarded, and say so.

    Jobs made before the last edit, pause or resume do not count.
    """
    records = await db.fetch(
        """
        WITH failing AS MATERIALIZED (
          SELECT
            s.id,
            format(
              CASE s.max_failures
                WHEN 1 THEN 'a run failed, job %2$s: %3$s'
                ELSE '%1$s runs failed in a row, the last one job %2$s: %3$s'
              END,
              s.max_failures, last.id,
              coalesce(left(split_part(last.error, E'\\n', 1), 200), 'it left no error')
            ) AS reason
          FROM qj_schedules AS s
          CROSS JOIN LATERAL (
            SELECT
              count(*) AS failures,
              max(e.id) AS id,
              (array_agg(to_jsonb(e.errors) -> -1 ->> 'error' ORDER BY e.id DESC))[1] AS error
            FROM (
              SELECT id, state, errors, inserted_at
              FROM (
                SELECT id, state, errors, inserted_at, meta
                FROM oban_jobs
                WHERE meta ? 'cron_name' AND meta ->> 'cron_name' = s.name
                ORDER BY id DESC
                OFFSET 0
              ) AS made
              WHERE
                meta ->> 'trigger' IS DISTINCT FROM 'backfill'
                AND state IN ('completed', 'cancelled', 'discarded')
              LIMIT s.max_failures
            ) AS e
            WHERE e.state = 'discarded' AND e.inserted_at > timezone('UTC', s.updated_at)
          ) AS last
          WHERE s.max_failures IS NOT NULL AND s.paused_at IS NULL AND last.failures = s.max_failures
          FOR NO KEY UPDATE OF s SKIP LOCKED
        ),
        paused AS (
          UPDATE qj_schedules AS s
          SET
            paused_at = clock_timestamp(), paused_by = 'scheduler', paused_reason = f.reason,
            updated_by = 'scheduler'
          FROM failing AS f
          WHERE s.id = f.id AND s.paused_at IS NULL
          RETURNING s.id, s.name, s.paused_at, s.paused_reason
        ),
        superseded AS (
          UPDATE qj_alerts AS a
          SET resolved_at = clock_timestamp(), resolution = format('%s was paused again', a.schedule)
          FROM paused AS p
          WHERE a.schedule_id = p.id AND a.kind = 'paused' AND a.resolved_at IS NULL
          RETURNING a.id
        ),
        raised AS (
          INSERT INTO qj_alerts (schedule_id, schedule, tick_at, kind, message)
          SELECT id, name, paused_at, 'paused', format('%s is paused: %s', name, paused_reason)
          FROM paused
          WHERE (SELECT count(*) FROM superseded) >= 0
          ON CONFLICT DO NOTHING
          RETURNING *
        ),
        told AS (
          INSERT INTO qj_alert_deliveries (alert_id, channel, event)
          SELECT r.id, c.channel, 'raised'
          FROM raised AS r
          CROSS JOIN unnest($1::text[]) AS c (channel)
        )
        SELECT * FROM raised ORDER BY id
        """,
        list(channels),
    )
    return [Alert(**record) for record in records]


async def open(db: Database, *, limit: int) -> list[Alert]:
    """List the open alerts, the newest first."""
    records = await db.fetch(
        """
        SELECT *
        FROM qj_alerts
        WHERE resolved_at IS NULL
        ORDER BY raised_at DESC, id DESC
        LIMIT $1
        """,
        limit,
    )
    return [Alert(**record) for record in records]
