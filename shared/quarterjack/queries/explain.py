"""What the tables know of one instant of a schedule: the version in force, the decision, and who led."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from quarterjack.database import Database
from quarterjack.queries.runs import Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What decided when a schedule ran, as it was under one version."""

    name: str
    version: int
    cron: str
    timezone: str
    dst: str
    jitter: timedelta
    start_at: datetime | None
    end_at: datetime | None
    blackouts: list[str]
    calendars: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time without a leader, and who ended it."""

    since: datetime
    until: datetime
    node: str


async def in_force(db: Database, schedule_id: int, at: datetime) -> InForce | None:
    """Give the version that was in force at an instant; None before the first one."""
    record = await db.fetchrow(
        """
        SELECT
          definition ->> 'name' AS name, version, definition ->> 'cron' AS cron,
          definition ->> 'timezone' AS timezone, definition ->> 'dst' AS dst,
          coalesce(definition ->> 'jitter', '0')::interval AS jitter,
          (definition ->> 'start_at')::timestamptz AS start_at, (definition ->> 'end_at')::timestamptz AS end_at,
          ARRAY(SELECT jsonb_array_elements_text(definition -> 'blackouts')) AS blackouts,
          ARRAY(SELECT jsonb_array_elements_text(definition -> 'calendars')) AS calendars
        FROM qj_schedule_versions
        WHERE schedule_id = $1 AND created_at <= $2
        ORDER BY version DESC
        LIMIT 1
        """,
        schedule_id,
        at,
    )
    return InForce(**record) if record else None


async def decision(db: Database, schedule_id: int, tick_at: datetime) -> Tick | None:
    """Give the ledger line of a tick: its own, or that of the range that it lies in."""
    record = await db.fetchrow(
        """
        SELECT tick_at, until_at, ticks, outcome, reason, job_id, version, decided_at
        FROM qj_ticks
        WHERE schedule_id = $1 AND tick_at <= $2 AND (tick_at = $2 OR until_at >= $2)
        ORDER BY tick_at DESC
        LIMIT 1
        """,
        schedule_id,
        tick_at,
    )
    return Tick(**record) if record else None


async def gaps(db: Database, start: datetime, end: datetime) -> list[Gap]:
    """List the times without a leader that touch a span, at most 20."""
    records = await db.fetch(
        """
        SELECT free_since AS since, acquired_at AS until, node
        FROM qj_terms
        WHERE free_since < $2 AND acquired_at > $1
        ORDER BY term
        LIMIT 20
        """,
        start,
        end,
    )
    return [Gap(**record) for record in records]


async def losses(db: Database, schedule_id: int, tick_at: datetime) -> list[dict[str, Any]]:
    """List the decisions of a tick that a failover took back."""
    records = await db.fetch(
        """
        SELECT job_id, decided_at, reported_at
        FROM qj_lost_ticks
        WHERE schedule_id = $1 AND tick_at = $2
        ORDER BY decided_at
        """,
        schedule_id,
        tick_at,
    )
    return [dict(record) for record in records]


async def ledger_begins(db: Database, schedule_id: int) -> datetime | None:
    """Give the oldest tick that the ledger still knows."""
    at: datetime | None = await db.fetchval(
        "SELECT min(tick_at) FROM qj_ticks WHERE schedule_id = $1", schedule_id
    )
    return at
