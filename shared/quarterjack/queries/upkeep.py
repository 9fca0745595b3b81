"""The leader's other duties: stage and rescue. Two runners at once are harmless."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """A producer that has stopped beating, as seen at an instant of the database's clock.

    `silence` is how far its last heartbeat is from then: in the future, if the clock was set back since.
    """

    uuid: UUID
    node: str
    queue: str
    silence: timedelta
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A job taken from a worker that is gone."""

    id: int
    state: str
    queue: str
    node: str


async def stage(db: Database, *, limit: int) -> list[str]:
    """Make due scheduled and retryable jobs available, oldest first; the queue of each.

    While an Elixir Oban leads, what our workers do not serve is left to it for 5 s: its staging takes back a job that
    ours has made available meanwhile, and that a worker has begun.
    """
    records = await db.fetch(
        """
        WITH due AS MATERIALIZED (
          SELECT id
          FROM oban_jobs
          WHERE
            state IN ('scheduled', 'retryable')
            AND scheduled_at <= timezone('UTC', now())
            AND (
              scheduled_at <= timezone('UTC', now() - interval '5 s')
              OR NOT EXISTS (SELECT FROM oban_peers WHERE expires_at > timezone('UTC', now()))
              OR queue IN (SELECT queue FROM qj_producers WHERE state <> 'dead')
            )
          ORDER BY scheduled_at, id
          LIMIT $1
          FOR UPDATE SKIP LOCKED
        )
        UPDATE oban_jobs AS j
        SET state = 'available'
        FROM due
        WHERE j.id = due.id
        RETURNING j.queue
        """,
        limit,
    )
    return [record["queue"] for record in records]


async def next_due_in(db: Database) -> timedelta | None:
    """Give the time until the next scheduled or retryable job is due; None if it is a day or more."""
    wait: timedelta | None = await db.fetchval(
        """
        SELECT greatest(scheduled_at, timezone('UTC', now())) - timezone('UTC', now())
        FROM oban_jobs
        WHERE
          state IN ('scheduled', 'retryable')
          AND scheduled_at < timezone('UTC', now() + interval '1 day')
        ORDER BY scheduled_at
        LIMIT 1
        """
    )
    return wait


async def silent_producers(db: Database, *, patience: timedelta) -> list[Silent]:
    """Give the producers, not yet condemned, whose last heartbeat is further away than `patience`."""
    records = await db.fetch(
        """
        SELECT
          uuid, node, queue,
          greatest(clock_timestamp() - heartbeat_at, heartbeat_at - clock_timestamp()) AS silence,
          clock_timestamp() AS seen_at
        FROM qj_producers
        WHERE
          state <> 'dead'
          AND heartbeat_at NOT BETWEEN clock_timestamp() - $1::interval AND clock_timestamp() + $1::interval
        """,
        patience,
    )
    return [Silent(**record) for record in records]


async def live_nodes(db: Database) -> int:
    """Count the worker processes that are not condemned."""
    count: int = await db.fetchval(
        "SELECT count(DISTINCT (node, pid)) FROM qj_producers WHERE state <> 'dead'"
    )
    return count


async def condemn(db: Database, *, uuids: Sequence[UUID], patience: timedelta) -> None:
    """Declare producers dead, if they are silent still; they can claim no more under this uuid."""
    await db.execute(
        """
        WITH dead AS (
          UPDATE qj_producers
          SET state = 'dead'
          WHERE
            uuid = ANY ($1::uuid[])
            AND heartbeat_at NOT BETWEEN clock_timestamp() - $2::interval AND clock_timestamp() + $2::interval
          RETURNING uuid
        )
        DELETE FROM oban_producers WHERE uuid IN (SELECT uuid FROM dead)
        """,
        list(uuids),
        patience,
    )


async def rescue(db: Database, *, limit: int) -> list[Rescued]:
    """Take the running jobs of dead producers back; those without attempts left, or cancelled meanwhile, end.

    Only jobs claimed by a Quarterjack worker, which the third element of attempted_by shows: liveness of
    another Oban's jobs is not ours to judge. The attempt is kept.
    """
    records = await db.fetch(
        """
        WITH orphan AS MATERIALIZED (
          SELECT
            j.id, j.attempted_by[1] AS node,
            CASE
              WHEN j.meta ->> 'cancel_attempted_at' > to_char(j.attempted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US')
              THEN 'cancelled'
              WHEN j.attempt >= j.max_attempts THEN 'discarded'
              ELSE 'available'
            END AS ends_in
          FROM oban_jobs AS j
          WHERE
            j.state = 'executing'
            AND j.attempted_by[3] IS NOT NULL
            AND NOT EXISTS (
              SELECT FROM qj_producers AS p WHERE p.uuid::text = j.attempted_by[2] AND p.state <> 'dead'
            )
          LIMIT $1
          FOR UPDATE SKIP LOCKED
        )
        UPDATE oban_jobs AS j
        SET
          state = o.ends_in::oban_job_state,
          cancelled_at = CASE WHEN o.ends_in = 'cancelled' THEN timezone('UTC', clock_timestamp()) END,
          discarded_at = CASE WHEN o.ends_in = 'discarded' THEN timezone('UTC', clock_timestamp()) END,
          errors = qj_with_error(j.errors, jsonb_build_object(
            'attempt', j.attempt,
            'at', to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'error', format('Orphaned: the worker %s went silent while it ran this job', o.node)
          )),
          meta = coalesce(j.meta, '{}') || jsonb_build_object(
            'rescued', CASE
              WHEN jsonb_typeof(j.meta -> 'rescued') = 'number'
              THEN least((j.meta ->> 'rescued')::numeric, 1e9)::bigint + 1
              ELSE 1
            END
          )
        FROM orphan AS o
        WHERE j.id = o.id
        RETURNING j.id, j.state::text AS state, j.queue, o.node
        """,
        limit,
    )
    return [Rescued(**record) for record in records]


async def discard_exhausted(db: Database) -> list[int]:
    """Discard jobs that another program made available with no attempt left: nobody may claim them."""
    records = await db.fetch(
        """
        UPDATE oban_jobs
        SET
          state = 'discarded',
          discarded_at = timezone('UTC', clock_timestamp()),
          errors = qj_with_error(errors, jsonb_build_object(
            'attempt', attempt,
            'at', to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'error', 'Exhausted: it was made available with no attempt left; raise max_attempts to retry it'
          ))
        WHERE
          id IN (
            SELECT id
            FROM oban_jobs
            WHERE state = 'available' AND attempt >= max_attempts
            FOR UPDATE SKIP LOCKED
          )
        RETURNING id
        """
    )
    return [record["id"] for record in records]


async def forget_dead_producers(db: Database) -> None:
    """Drop condemned producers that no running job names any more."""
    await db.execute(
        """
        DELETE FROM qj_producers AS p
        WHERE
          p.state = 'dead'
          AND p.heartbeat_at < clock_timestamp() - interval '60 s'
          AND NOT EXISTS (
            SELECT FROM oban_jobs AS j WHERE j.state = 'executing' AND j.attempted_by[2] = p.uuid::text
          )
        """
    )
