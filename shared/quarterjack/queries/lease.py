"""Who leads: heartbeats of the replicas, and one lease whose term only grows.

None of this waits for a standby. What an asynchronous failover loses of it costs an election, and a standby that
stalls must not look like a replica that is dead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a heartbeat found: the lease as it is, and the database's clock."""

    leading: bool
    term: int
    holder: UUID | None
    remaining: timedelta
    free: bool
    now: datetime


async def beat(
    db: Database,
    *,
    uuid: UUID,
    node: str,
    pid: int,
    version: str,
    started_at: datetime,
    lag: timedelta,
    clock_offset: timedelta,
    term: int,
    ttl: timedelta,
) -> Standing:
    """Show this replica as alive and, with a `term` of its own, renew the lease.

    This leader's own enqueue, which locks the row's key, does not hinder it; a row that somebody takes is passed over.
    `free` means that acquiring it would succeed. A lease that somebody has deleted is made anew, for the next beat.
    """
    record = await db.fetchrow(
        """
        WITH settings AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
        alive AS (
          INSERT INTO qj_peers (uuid, node, pid, version, started_at, heartbeat_at, lag, clock_offset)
          SELECT
            $1::uuid, $2::text, $3::integer, $4::text, $5::timestamptz, clock_timestamp(), $6::interval, $7::interval
          FROM settings
          ON CONFLICT (uuid) DO UPDATE
          SET heartbeat_at = excluded.heartbeat_at, lag = excluded.lag, clock_offset = excluded.clock_offset
        ),
        mine AS MATERIALIZED (
          SELECT name
          FROM qj_lease
          WHERE name = 'scheduler' AND term = $8 AND holder = $1
          FOR NO KEY UPDATE SKIP LOCKED
        ),
        renewed AS (
          UPDATE qj_lease AS l
          SET
            renewed_at = clock_timestamp(),
            expires_at = clock_timestamp() + $9::interval,
            backend_pid = pg_backend_pid(),
            backend_start = (SELECT a.backend_start FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid())
          FROM mine
          WHERE l.name = mine.name
        )
        SELECT
          l.term = $8 AND l.holder IS NOT DISTINCT FROM $1 AS leading,
          l.term,
          l.holder,
          greatest(
            CASE WHEN isfinite(l.expires_at) THEN l.expires_at - clock_timestamp() END, '0'::interval
          ) AS remaining,
          l.expires_at <= clock_timestamp()
            OR l.expires_at > clock_timestamp() + 2 * $9::interval
            OR NOT EXISTS (
              SELECT FROM pg_stat_activity AS a
              WHERE a.pid = l.backend_pid AND a.backend_start = l.backend_start
            ) AS free,
          clock_timestamp() AS now
        FROM qj_lease AS l
        WHERE l.name = 'scheduler'
        """,
        uuid,
        node,
        pid,
        version,
        started_at,
        lag,
        clock_offset,
        term,
        ttl,
    )
    return Standing(**record) if record else await _make_anew(db)


async def _make_anew(db: Database) -> Standing:
    """Make the row of the lease that a migration makes; its terms go on after those that are known."""
    record = await db.fetchrow(
        """
        INSERT INTO qj_lease AS l (name, term)
        SELECT 'scheduler', coalesce(max(term), 0) FROM qj_terms
        ON CONFLICT (name) DO UPDATE SET term = l.term
        RETURNING
          false AS leading, term, holder, '0'::interval AS remaining, false AS free, clock_timestamp() AS now
        """
    )
    assert record is not None
    return Standing(**record)


async def acquire(
    db: Database, *, uuid: UUID, node: str, seen_term: int, ttl: timedelta
) -> int | None:
    """Take the lease that was seen free; the new term, or None if another was quicker.

    The comparison with the seen term lets one of many through. The whole row is locked, which waits for an enqueue of
    the old leader, and the time is read after that; an error after a second of waiting, so that nobody queues for it
    who has given up.
    """
    term: int | None = await db.fetchval(
        """
        WITH settings AS MATERIALIZED (
          SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '1s', true)
        ),
        before AS MATERIALIZED (
          SELECT renewed_at FROM qj_lease WHERE name = 'scheduler'
        ),
        held AS MATERIALIZED (
          SELECT l.name FROM settings, qj_lease AS l WHERE l.name = 'scheduler' FOR UPDATE OF l
        ),
        taken AS (
          UPDATE qj_lease AS l
          SET
            term = l.term + 1,
            holder = $1,
            node = $2,
            backend_pid = pg_backend_pid(),
            backend_start = (SELECT a.backend_start FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid()),
            acquired_at = clock_timestamp(),
            renewed_at = clock_timestamp(),
            expires_at = clock_timestamp() + $4::interval
          FROM held
          WHERE
            l.name = held.name
            AND l.term = $3
            AND (
              l.expires_at <= clock_timestamp()
              OR l.expires_at > clock_timestamp() + 2 * $4::interval
              OR NOT EXISTS (
                SELECT FROM pg_stat_activity AS a
                WHERE a.pid = l.backend_pid AND a.backend_start = l.backend_start
              )
            )
          RETURNING l.term, l.holder, l.node, l.acquired_at
        ),
        noted AS (
          INSERT INTO qj_terms (term, holder, node, acquired_at, free_since)
          SELECT t.term, t.holder, t.node, t.acquired_at, b.renewed_at FROM taken AS t, before AS b
          ON CONFLICT (term) DO UPDATE
          SET
            holder = excluded.holder, node = excluded.node, acquired_at = excluded.acquired_at, resigned_at = NULL,
            free_since = excluded.free_since
        )
        SELECT term FROM taken
        """,
        uuid,
        node,
        seen_term,
        ttl,
    )
    return term


async def resign(db: Database, *, uuid: UUID, term: int) -> None:
    """Give the lease back, if it is still held under this term, and leave the peers."""
    await db.execute(
        """
        WITH settings AS MATERIALIZED (
          SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '1s', true)
        ),
        given_back AS (
          UPDATE qj_lease
          SET holder = NULL, renewed_at = clock_timestamp(), expires_at = '-infinity'
          FROM settings
          WHERE name = 'scheduler' AND holder = $1 AND term = $2
          RETURNING term
        ),
        noted AS (
          UPDATE qj_terms AS t SET resigned_at = clock_timestamp() FROM given_back AS g WHERE t.term = g.term
        )
        DELETE FROM qj_peers WHERE uuid = $1
        """,
        uuid,
        term,
    )


async def forget_silent_peers(db: Database) -> None:
    """Drop replicas that have not been heard for 10 s."""
    await db.execute(
        "DELETE FROM qj_peers WHERE heartbeat_at < clock_timestamp() - interval '10 s'"
    )
