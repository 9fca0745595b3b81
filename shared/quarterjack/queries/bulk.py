"""Act on jobs at once: one, or those that a filter finds, the oldest first, never more than MOST of them."""

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
            state = ANY ($1::oban_job_state[])
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


async def pick(db: Database, chosen: Chosen) -> list[int]:
    """Give the ids of the oldest, and keep them until the transaction ends.

    Jobs that another session holds are left, so that nobody waits for a worker or for another who acts.
    Those of a queue, or of a state that is not most of history, are found by its index: in the order of ids the planner
    would read all history for them.
    """
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          state = ANY ($1::oban_job_state[])
          AND ($2::text IS NULL OR worker = $2)
          AND ($3::text IS NULL OR queue = $3)
          AND id > $4 AND id <= $5
        ORDER BY
          CASE WHEN $3 IS NULL AND ($2 IS NOT NULL OR 'completed' = ANY ($1)) THEN id ELSE id + 0 END
        LIMIT $6
        FOR UPDATE SKIP LOCKED
        """,
        chosen.states,
        chosen.worker,
        chosen.queue,
        chosen.above,
        chosen.upto,
        MOST,
    )
    return [record["id"] for record in records]


async def cancel(db: Database, ids: Sequence[int]) -> int:
    """Cancel jobs that wait, mark those that run and ask workers to stop them; how many.

    One that a worker runs stays executing until that has stopped it, or is gone. But not what an Elixir node runs: that
    may be gone, and says so nowhere.
    """
    done: int = await db.fetchval(
        """
        WITH held AS MATERIALIZED (
          SELECT
            id,
            state = 'executing' AS began,
            state = 'executing' AND (
              attempted_by[3] IS NOT NULL
              OR EXISTS (SELECT FROM oban_producers AS p WHERE p.uuid::text = attempted_by[2])
            ) AS runs
          FROM oban_jobs
          WHERE id = ANY ($1) AND state IN ('suspended', 'available', 'scheduled', 'executing', 'retryable')
          FOR UPDATE
        ),
        cancelled AS (
          UPDATE oban_jobs AS j
          SET
            state = (CASE WHEN h.runs THEN 'executing' ELSE 'cancelled' END)::oban_job_state,
            cancelled_at = CASE WHEN NOT h.runs THEN timezone('UTC', clock_timestamp()) END,
            meta = coalesce(meta, '{}') || jsonb_build_object(
              'cancel_attempted_at', to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            )
          FROM held AS h
          WHERE j.id = h.id
          RETURNING j.id, h.began
        ),
        asked AS MATERIALIZED (
          SELECT
            pg_notify(
              current_schema() || '.oban_signal', json_build_object('action', 'pkill', 'job_id', id)::text
            )
          FROM cancelled
          WHERE began
        )
        SELECT count(*) FROM cancelled WHERE (SELECT count(*) FROM asked) >= 0
        """,
        list(ids),
    )
    return done


async def retry(db: Database, ids: Sequence[int]) -> int:
    """Make jobs available again as Oban does, but those that run or are, and wake their queues; how many."""
    done: int = await db.fetchval(
        """
        WITH retried AS (
          UPDATE oban_jobs
          SET
            state = 'available', scheduled_at = timezone('UTC', clock_timestamp()),
            attempt = least(attempt, 32766),
            max_attempts = greatest(max_attempts, least(attempt, 32766) + 1),
            completed_at = NULL, cancelled_at = NULL, discarded_at = NULL
          WHERE id = ANY ($1) AND state NOT IN ('available', 'executing')
          RETURNING queue
        ),
        rung AS MATERIALIZED (
          SELECT pg_notify(current_schema() || '.oban_insert', json_build_object('queue', queue)::text)
          FROM retried
          GROUP BY queue
        )
        SELECT count(*) FROM retried WHERE (SELECT count(*) FROM rung) >= 0
        """,
        list(ids),
    )
    return done


async def delete(db: Database, ids: Sequence[int]) -> int:
    """Delete jobs that do not run; how many."""
    done: int = await db.fetchval(
        """
        WITH deleted AS (
          DELETE FROM oban_jobs WHERE id = ANY ($1) AND state <> 'executing' RETURNING id
        )
        SELECT count(*) FROM deleted
        """,
        list(ids),
    )
    return done
