"""The leader takes over what people edit: new schedules, new versions, pauses that run out.

A row that another session holds is passed over until the next look.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanned:
    """A new or edited schedule that the leader has not taken over yet."""

    id: int
    name: str
    version: int
    updated_at: datetime
    cron: str
    timezone: str
    dst: str
    jitter: timedelta
    start_at: datetime | None
    end_at: datetime | None
    blackouts: list[str]
    calendars: list[str]
    paused: bool
    planned_from: datetime


async def unplanned(db: Database, *, limit: int) -> list[Unplanned]:
    """Give the schedules that were made, edited, paused or resumed since a leader last looked."""
    records = await db.fetch(
        """
        SELECT
          id, name, version, updated_at, cron, timezone, dst, jitter, start_at, end_at, blackouts, calendars,
          paused_at IS NOT NULL AS paused,
          greatest(planned_from, last_tick_at) AS planned_from
        FROM qj_schedules
        WHERE
          applied_version IS DISTINCT FROM version
          OR (next_run_at IS NULL AND paused_at IS NULL AND broken_reason IS NULL)
        ORDER BY id
        LIMIT $1
        """,
        limit,
    )
    return [Unplanned(**record) for record in records]


async def plan(
    db: Database, *, holder: UUID, term: int, node: str, plans: Sequence[dict[str, Any]]
) -> set[int]:
    """Take over versions: first tick, who applied it and when, or why it cannot be read; the ids that held."""
    records = await db.fetch(
        """
        WITH fence AS MATERIALIZED (
          SELECT FROM qj_lease WHERE name = 'scheduler' AND term = $2 AND holder = $1 FOR KEY SHARE
        ),
        free AS MATERIALIZED (
          SELECT s.id, p.version, p.updated_at, p.next_run_at, p.broken_reason
          FROM
            fence,
            qj_schedules AS s,
            jsonb_to_recordset($4::text::jsonb) AS p (
              id bigint, version bigint, updated_at timestamptz, next_run_at timestamptz, broken_reason text
            )
          WHERE s.id = p.id
          ORDER BY s.id
          FOR NO KEY UPDATE OF s SKIP LOCKED
        )
        UPDATE qj_schedules AS s
        SET
          next_run_at = coalesce(s.next_run_at, p.next_run_at),
          broken_reason = p.broken_reason,
          applied_version = p.version,
          applied_at = clock_timestamp(),
          applied_by = $3
        FROM free AS p
        WHERE s.id = p.id AND s.version = p.version AND s.updated_at = p.updated_at
        RETURNING s.id
        """,
        holder,
        term,
        node,
        json.dumps(plans),
    )
    return {record["id"] for record in records}


async def mark_broken(
    db: Database,
    *,
    holder: UUID,
    term: int,
    id: int,
    version: int,
    updated_at: datetime,
    reason: str,
) -> None:
    """Set one schedule aside with the reason, until it is edited."""
    await db.execute(
        """
        WITH fence AS MATERIALIZED (
          SELECT FROM qj_lease WHERE name = 'scheduler' AND term = $2 AND holder = $1 FOR KEY SHARE
        )
        UPDATE qj_schedules AS s
        SET broken_reason = $5
        FROM (
          SELECT s.id
          FROM fence, qj_schedules AS s
          WHERE s.id = $3 AND s.version = $4 AND s.updated_at = $6
          FOR NO KEY UPDATE OF s SKIP LOCKED
        ) AS free
        WHERE s.id = free.id
        """,
        holder,
        term,
        id,
        version,
        reason,
        updated_at,
    )


async def resume_due(db: Database) -> list[str]:
    """Resume the schedules whose pause has run out; their names. Harmless when run twice."""
    records = await db.fetch(
        """
        UPDATE qj_schedules
        SET paused_at = NULL, updated_by = 'scheduler'
        WHERE id IN (
          SELECT id
          FROM qj_schedules
          WHERE resume_at <= clock_timestamp() AND paused_at IS NOT NULL
          FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING name
        """
    )
    return [record["name"] for record in records]
