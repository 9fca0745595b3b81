"""The rows by which worker processes show that they live: one per process and queue."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from asyncpg import Record

from quarterjack.database import Database
from quarterjack.queries.upkeep import Rescued


@dataclass(frozen=True, slots=True, kw_only=True)
class Producing:
    """One producer as it shows itself."""

    uuid: UUID
    queue: str
    limit: int
    running: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What qj_queues asks of one producer; `limit` None: that of its command line. `limited`: over all nodes.

    `waiting`: jobs of its queue may be claimed, as far as a heartbeat saw.
    """

    paused: bool
    stopped: bool
    limit: int | None
    limited: bool
    waiting: bool = False


async def register(
    db: Database, *, node: str, pid: int, version: str, name: str, producers: Sequence[Producing]
) -> None:
    """Enter new producers, to be kept alive by `beat`; may be repeated after a lost reply."""
    await db.execute(
        """
        INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit)
        SELECT p.uuid, $1, $2, $3, $4, p.queue, p.local_limit
        FROM unnest($5::uuid[], $6::text[], $7::integer[]) AS p (uuid, queue, local_limit)
        ON CONFLICT (uuid) DO NOTHING
        """,
        name,
        node,
        pid,
        version,
        [each.uuid for each in producers],
        [each.queue for each in producers],
        [each.limit for each in producers],
    )


async def beat(
    db: Database,
    *,
    node: str,
    name: str,
    draining: bool,
    producers: Sequence[Producing],
) -> dict[UUID, Asked]:
    """Show the producers as alive, to us and to Oban's tools; what is asked of those that are not condemned.

    It looks for waiting jobs as well, in the order of their index, whatever the planner knows of their number; and
    before it holds a row, lest a beat that is cut off while it looks keeps the next one waiting.
    It waits for no standby: one that stalls would make every worker look dead.
    """
    records = await db.fetch(
        """
        WITH settings AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
        mine AS MATERIALIZED (
          SELECT
            m.*,
            EXISTS (
              SELECT FROM (
                SELECT
                FROM oban_jobs
                WHERE state = 'available' AND queue = m.queue AND attempt < max_attempts
                ORDER BY priority, scheduled_at, id
                OFFSET 0
              ) AS ready
            ) AS waiting
          FROM
            settings,
            unnest($1::uuid[], $2::text[], $3::integer[], $4::integer[], $5::boolean[], $6::text[])
              AS m (uuid, queue, local_limit, running, paused, meta)
        ),
        alive AS (
          UPDATE qj_producers AS p
          SET
            heartbeat_at = clock_timestamp(),
            state = CASE WHEN $7 THEN 'draining' ELSE 'running' END,
            local_limit = m.local_limit,
            running = m.running,
            paused = m.paused
          FROM mine AS m
          WHERE p.uuid = m.uuid AND p.state <> 'dead' AND (SELECT count(*) FROM mine) >= 0
          RETURNING p.uuid, p.queue, p.started_at, m.waiting
        ),
        shown AS (
          INSERT INTO oban_producers (uuid, name, node, queue, meta, started_at, updated_at)
          SELECT
            a.uuid, $8, $9, a.queue, m.meta::jsonb, timezone('UTC', a.started_at), timezone('UTC', clock_timestamp())
          FROM alive AS a
          JOIN mine AS m USING (uuid)
          ON CONFLICT (uuid) DO UPDATE SET meta = excluded.meta, updated_at = excluded.updated_at
        )
        SELECT q.uuid, q.paused, q.stopped, q.local_limit, q.limited, alive.waiting
        FROM alive
        JOIN qj_asked AS q USING (uuid)
        """,
        [each.uuid for each in producers],
        [each.queue for each in producers],
        [each.limit for each in producers],
        [each.running for each in producers],
        [each.paused for each in producers],
        [
            json.dumps({"local_limit": each.limit, "paused": each.paused, "running": each.running})
            for each in producers
        ],
        draining,
        name,
        node,
    )
    return _asked(records)


async def stay(db: Database, *, uuids: Sequence[UUID], draining: bool) -> dict[UUID, Asked]:
    """Show the producers as alive, to us only: somebody may have locked Oban's tables, or keep us from them.

    Jobs may wait, it says.
    """
    records = await db.fetch(
        """
        WITH settings AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
        alive AS (
          UPDATE qj_producers AS p
          SET heartbeat_at = clock_timestamp(), state = CASE WHEN $2 THEN 'draining' ELSE 'running' END
          FROM settings
          WHERE p.uuid = ANY ($1::uuid[]) AND p.state <> 'dead'
          RETURNING p.uuid
        )
        SELECT q.uuid, q.paused, q.stopped, q.local_limit, q.limited, true AS waiting
        FROM alive
        JOIN qj_asked AS q USING (uuid)
        """,
        list(uuids),
        draining,
    )
    return _asked(records)


async def asked(db: Database, uuids: Sequence[UUID]) -> dict[UUID, Asked]:
    """Read what is asked of producers."""
    records = await db.fetch(
        """
        SELECT uuid, paused, stopped, local_limit, limited, false AS waiting
        FROM qj_asked
        WHERE uuid = ANY ($1::uuid[])
        """,
        list(uuids),
    )
    return _asked(records)


def _asked(records: Sequence[Record]) -> dict[UUID, Asked]:
    return {
        record["uuid"]: Asked(
            paused=record["paused"],
            stopped=record["stopped"],
            limit=record["local_limit"],
            limited=record["limited"],
            waiting=record["waiting"],
        )
        for record in records
    }


async def leave(db: Database, *, uuids: Sequence[UUID]) -> None:
    """Take producers that hold no job out of the tables."""
    await db.execute(
        """
        WITH shown AS (
          DELETE FROM oban_producers WHERE uuid = ANY ($1::uuid[])
        )
        DELETE FROM qj_producers WHERE uuid = ANY ($1::uuid[])
        """,
        list(uuids),
    )


async def bury(db: Database, *, uuids: Sequence[UUID], reason: str, apart: bool) -> list[Rescued]:
    """Declare the producers of a process that was seen to end dead, and give its jobs to others at once.

    With `apart` those that were tried before wait, for a random part of a time that doubles: one of them may take its
    process down each time, and the others must come to their end without it before their attempts are used up. What was
    cancelled meanwhile is cancelled. Those that somebody holds are passed over: the leader rescues them when they are
    free.
    """
    records = await db.fetch(
        """
        WITH dead AS (
          UPDATE qj_producers SET state = 'dead' WHERE uuid = ANY ($1::uuid[])
        ),
        shown AS (
          DELETE FROM oban_producers WHERE uuid = ANY ($1::uuid[])
        ),
        orphan AS MATERIALIZED (
          SELECT id
          FROM oban_jobs
          WHERE state = 'executing' AND attempted_by[2] = ANY (ARRAY(SELECT unnest($1::uuid[])::text))
          FOR UPDATE SKIP LOCKED
        )
        UPDATE oban_jobs AS j
        SET
          (state, cancelled_at, discarded_at, scheduled_at) = (
            SELECT
              ends_in::oban_job_state,
              CASE WHEN ends_in = 'cancelled' THEN timezone('UTC', clock_timestamp()) END,
              CASE WHEN ends_in = 'discarded' THEN timezone('UTC', clock_timestamp()) END,
              CASE
                WHEN ends_in = 'retryable'
                THEN timezone(
                  'UTC', clock_timestamp() + make_interval(secs => random() * 2 ^ (least(j.attempt, 13) - 1))
                )
                ELSE j.scheduled_at
              END
            FROM (
              SELECT
                CASE
                  WHEN j.meta ->> 'cancel_attempted_at' > to_char(j.attempted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US')
                  THEN 'cancelled'
                  WHEN j.attempt >= j.max_attempts THEN 'discarded'
                  WHEN $3 AND j.attempt > 1 THEN 'retryable'
                  ELSE 'available'
                END
            ) AS seen (ends_in)
          ),
          errors = qj_with_error(j.errors, jsonb_build_object(
            'attempt', j.attempt,
            'at', to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'error', $2::text
          ))
        WHERE j.id = ANY (ARRAY(SELECT id FROM orphan))
        RETURNING j.id, j.state::text AS state, j.queue, j.attempted_by[1] AS node
        """,
        list(uuids),
        reason,
        apart,
    )
    return [Rescued(**record) for record in records]
