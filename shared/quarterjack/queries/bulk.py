"""Act on many jobs at once: those that a filter finds, the oldest first, never more than MOST of them.

Jobs that another session holds are left, so that nobody waits for a worker or for another who acts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quarterjack.database import Database

MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Jobs in one of `states`, with an id above `above` and up to `upto`; None as worker or queue means any."""

    states: Sequence[str]
    worker: str | None
    queue: str | None
    above: int
    upto: int


async def count(db: Database, chosen: Chosen) -> int:
    """Count them, up to MOST + 1."""
    found: int = await db.fetchval(
        """
        SELECT count(*)
        FROM (
          SELECT
          FROM oban_jobs
          WHERE
            state = ANY ($1::text[]::oban_job_state[])
            AND ($2::text IS NULL OR worker = $2)
            AND ($3::text IS NULL OR queue = $3)
            AND id > $4 AND id <= $5
          LIMIT $6
        ) AS capped
        """,
        chosen.states,
        chosen.worker,
        chosen.queue,
        chosen.above,
        chosen.upto,
        MOST + 1,
    )
    return found


async def cancel(db: Database, chosen: Chosen) -> int:
    """Cancel those that wait, and ask workers to stop those that run; how many."""
    done: int = await db.fetchval(
        """
        WITH pick AS MATERIALIZED (
          SELECT id, state
          FROM oban_jobs
          WHERE
            state = ANY ($1::text[]::oban_job_state[])
            AND state IN ('suspended', 'available', 'scheduled', 'retryable', 'executing')
            AND ($2::text IS NULL OR worker = $2)
            AND ($3::text IS NULL OR queue = $3)
            AND id > $4 AND id <= $5
          ORDER BY id
          LIMIT $6
          FOR UPDATE SKIP LOCKED
        ),
        cancelled AS (
          UPDATE oban_jobs AS j
          SET
            state = 'cancelled', cancelled_at = timezone('UTC', clock_timestamp()),
            meta = jsonb_set(
              coalesce(j.meta, '{}'), '{cancel_attempted_at}',
              to_jsonb(to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
            )
          FROM pick AS p
          WHERE j.id = p.id AND p.state <> 'executing'
          RETURNING j.id
        ),
        asked AS MATERIALIZED (
          SELECT
            pg_notify(
              current_schema() || '.oban_signal', json_build_object('action', 'pkill', 'job_id', id)::text
            )
          FROM pick
          WHERE state = 'executing'
        )
        SELECT (SELECT count(*) FROM cancelled) + (SELECT count(*) FROM asked)
        """,
        chosen.states,
        chosen.worker,
        chosen.queue,
        chosen.above,
        chosen.upto,
        MOST,
    )
    return done


async def retry(db: Database, chosen: Chosen) -> int:
    """Make those that ended, or wait for their next attempt, available again, and wake their queues; how many."""
    done: int = await db.fetchval(
        """
        WITH pick AS MATERIALIZED (
          SELECT id
          FROM oban_jobs
          WHERE
            state = ANY ($1::text[]::oban_job_state[])
            AND state IN ('retryable', 'completed', 'cancelled', 'discarded')
            AND ($2::text IS NULL OR worker = $2)
            AND ($3::text IS NULL OR queue = $3)
            AND id > $4 AND id <= $5
          ORDER BY id
          LIMIT $6
          FOR UPDATE SKIP LOCKED
        ),
        retried AS (
          UPDATE oban_jobs AS j
          SET
            state = 'available', scheduled_at = timezone('UTC', clock_timestamp()),
            max_attempts = greatest(j.max_attempts, j.attempt + 1),
            completed_at = NULL, cancelled_at = NULL, discarded_at = NULL
          FROM pick AS p
          WHERE j.id = p.id
          RETURNING j.queue
        ),
        rung AS MATERIALIZED (
          SELECT pg_notify(current_schema() || '.oban_insert', json_build_object('queue', queue)::text)
          FROM retried
          GROUP BY queue
        )
        SELECT count(*) FROM retried WHERE (SELECT count(*) FROM rung) >= 0
        """,
        chosen.states,
        chosen.worker,
        chosen.queue,
        chosen.above,
        chosen.upto,
        MOST,
    )
    return done


async def delete(db: Database, chosen: Chosen) -> int:
    """Delete those that do not run; how many."""
    done: int = await db.fetchval(
        """
        WITH pick AS MATERIALIZED (
          SELECT id
          FROM oban_jobs
          WHERE
            state = ANY ($1::text[]::oban_job_state[])
            AND state <> 'executing'
            AND ($2::text IS NULL OR worker = $2)
            AND ($3::text IS NULL OR queue = $3)
            AND id > $4 AND id <= $5
          ORDER BY id
          LIMIT $6
          FOR UPDATE SKIP LOCKED
        ),
        deleted AS (
          DELETE FROM oban_jobs AS j USING pick AS p WHERE j.id = p.id RETURNING j.id
        )
        SELECT count(*) FROM deleted
        """,
        chosen.states,
        chosen.worker,
        chosen.queue,
        chosen.above,
        chosen.upto,
        MOST,
    )
    return done
