"""Who schedules, who works, and whether anything changed: for the admin's pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from quarterjack.database import Database
from quarterjack.model import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The scheduler's lease by the database's clock: `led` says whether anyone holds it now."""

    holder: UUID | None
    node: str | None
    term: int
    acquired_at: datetime | None
    renewed_at: datetime | None
    expires_at: datetime | None
    left: timedelta
    led: bool
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A row of qj_terms."""

    term: int
    node: str
    acquired_at: datetime
    resigned_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """A worker process on one queue."""

    node: str
    name: str
    pid: int
    version: str
    queue: str
    state: str
    paused: bool
    local_limit: int
    running: int
    started_at: datetime
    heartbeat_at: datetime
    silent: timedelta


async def lease(db: Database) -> Lease | None:
    """Read the lease; an expired one leads nobody."""
    record = await db.fetchrow(
        """
        SELECT
          holder, node, term, acquired_at, renewed_at,
          CASE WHEN isfinite(expires_at) THEN expires_at END AS expires_at,
          CASE
            WHEN isfinite(expires_at) THEN greatest(expires_at - clock_timestamp(), interval '0')
            ELSE interval '0'
          END AS left,
          holder IS NOT NULL AND expires_at > clock_timestamp() AS led,
          clock_timestamp() AS read_at
        FROM qj_lease
        WHERE name = 'scheduler'
        """
    )
    return Lease(**record) if record else None


async def peers(db: Database) -> list[Peer]:
    """List the scheduler replicas that have reported in the last day."""
    records = await db.fetch(
        """
        SELECT uuid, node, pid, version, started_at, heartbeat_at, lag, clock_offset
        FROM qj_peers
        WHERE heartbeat_at > clock_timestamp() - interval '1 day'
        ORDER BY node, started_at
        LIMIT 200
        """
    )
    return [Peer(**record) for record in records]


async def terms(db: Database, *, limit: int) -> list[Term]:
    """List the newest terms, newest first."""
    records = await db.fetch(
        """
        SELECT term, node, acquired_at, resigned_at
        FROM qj_terms
        ORDER BY term DESC
        LIMIT $1
        """,
        limit,
    )
    return [Term(**record) for record in records]


async def producers(db: Database, *, offset: int, limit: int) -> list[Producer]:
    """List worker processes by node and queue."""
    records = await db.fetch(
        """
        SELECT
          node, name, pid, version, queue, state, paused, local_limit, running, started_at, heartbeat_at,
          clock_timestamp() - heartbeat_at AS silent
        FROM qj_producers
        WHERE heartbeat_at > clock_timestamp() - interval '1 day'
        ORDER BY node, queue, started_at, uuid
        OFFSET $1
        LIMIT $2
        """,
        offset,
        limit,
    )
    return [Producer(**record) for record in records]


async def producers_of(db: Database, queue: str) -> list[Producer]:
    """List the worker processes of a queue by node: those that live, or may."""
    records = await db.fetch(
        """
        SELECT
          node, name, pid, version, queue, state, paused, local_limit, running, started_at, heartbeat_at,
          clock_timestamp() - heartbeat_at AS silent
        FROM qj_producers
        WHERE queue = $1 AND state <> 'dead' AND heartbeat_at > clock_timestamp() - interval '1 day'
        ORDER BY node, started_at
        LIMIT 1000
        """,
        queue,
    )
    return [Producer(**record) for record in records]


async def beating(db: Database, *, within: timedelta) -> tuple[int, int]:
    """Count the nodes whose workers live, and the queues that they serve."""
    record = await db.fetchrow(
        """
        SELECT count(DISTINCT node), count(DISTINCT queue)
        FROM qj_producers
        WHERE state <> 'dead' AND heartbeat_at > clock_timestamp() - $1::interval
        """,
        within,
    )
    assert record is not None
    return record[0], record[1]


async def producer_of(db: Database, attempted_by: Sequence[str | None]) -> Producer | None:
    """Read the producer that a job names; None if it is gone, or another program's."""
    record = await db.fetchrow(
        """
        SELECT
          node, name, pid, version, queue, state, paused, local_limit, running, started_at, heartbeat_at,
          clock_timestamp() - heartbeat_at AS silent
        FROM qj_producers
        WHERE uuid::text = $1
        """,
        attempted_by[1] if len(attempted_by) > 1 else None,
    )
    return Producer(**record) if record else None


async def unserved_queues(db: Database) -> list[str]:
    """Name up to 20 queues of active schedules that no live worker takes jobs from.

    While another Oban leads, its nodes may: then only those where a job has waited for a minute. Steps from queue to
    queue on an index, so it costs nothing for each schedule; and reads the workers once, not for each queue.
    """
    records = await db.fetch(
        """
        WITH RECURSIVE queues (queue) AS (
          SELECT min(queue) FROM qj_schedules WHERE paused_at IS NULL
          UNION ALL
          SELECT (SELECT min(s.queue) FROM qj_schedules AS s WHERE s.paused_at IS NULL AND s.queue > q.queue)
          FROM queues AS q
          WHERE q.queue IS NOT NULL
        )
        SELECT q.queue
        FROM queues AS q
        WHERE
          q.queue IS NOT NULL
          AND q.queue NOT IN (
            SELECT queue
            FROM qj_producers
            WHERE state = 'running' AND heartbeat_at > clock_timestamp() - interval '15 seconds'
          )
          AND (
            NOT EXISTS (
              SELECT expires_at FROM oban_peers WHERE expires_at > timezone('UTC', now())
              UNION ALL
              SELECT expires_at FROM oban_leaders WHERE expires_at > timezone('UTC', now())
            )
            OR EXISTS (
              SELECT FROM oban_jobs AS j
              WHERE
                j.state = 'available' AND j.queue = q.queue
                AND j.scheduled_at < timezone('UTC', now() - interval '1 minute')
            )
          )
        LIMIT 20
        """
    )
    return [record["queue"] for record in records]


async def activity(db: Database) -> int:
    """Count the changes ever made to jobs, journals, schedules and ticks, from statistics; costs no scan."""
    changes: int | None = await db.fetchval(
        """
        SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint
        FROM pg_stat_user_tables
        WHERE
          relid IN (
            'oban_jobs'::regclass, 'qj_schedules'::regclass, 'qj_ticks'::regclass, 'qj_journals'::regclass
          )
        """
    )
    return changes or 0


async def limit_reads(db: Database, *, milliseconds: int) -> None:
    """Bound this transaction's statements, and plan each one for its own parameters."""
    await db.execute(
        """
        SELECT
          set_config('statement_timeout', $1, true),
          set_config('lock_timeout', '500', true),
          set_config('plan_cache_mode', 'force_custom_plan', true)
        """,
        str(milliseconds),
    )
