"""Claim jobs for this process's queues, find claims whose reply was lost, give claims back.

attempted_by is {node, producer, nonce}: Oban reads the first two, the third is of this claim alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from quarterjack.database import Database
from quarterjack.model import Job, JobState
from quarterjack.queries.jobs import objects

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """How many more jobs a producer can run; `limited`: its queue has limits over all nodes.

    `far` are jobs of partitions that may wait behind a long backlog of others.
    """

    queue: str
    producer: UUID
    demand: int
    limited: bool = False
    far: Sequence[int] = ()


class Claim(NamedTuple):
    """One execution of a job, and what proves that it is still ours.

    Whoever claims the job next writes another nonce, or none; and so does who claims another job that got its id, after
    a failover.
    """

    id: int
    nonce: str


async def claim(db: Database, *, wants: Sequence[Want], node: str, nonce: str) -> list[Job]:
    """Claim for all queues in one statement, by priority, then age; a condemned producer gets nothing. `nonce` is new.

    What was picked goes to the update as an array, so that it is looked up by id: the planner takes a limit that it
    cannot see for a tenth of the queue, and would read the whole table for a join.
    """
    records = await db.fetch(
        """
        WITH want AS MATERIALIZED (
          SELECT w.queue, w.demand, ARRAY[$4::text, w.producer::text, $5::text] AS holder
          FROM unnest($1::text[], $2::uuid[], $3::integer[]) AS w (queue, producer, demand)
          JOIN qj_producers AS p ON p.uuid = w.producer AND p.state = 'running'
        ),
        pick AS MATERIALIZED (
          SELECT j.id
          FROM want AS w
          CROSS JOIN LATERAL (
            SELECT id
            FROM oban_jobs
            WHERE state = 'available' AND queue = w.queue AND attempt < max_attempts
            ORDER BY priority, scheduled_at, id
            LIMIT w.demand
            FOR UPDATE SKIP LOCKED
          ) AS j
        ),
        instant AS MATERIALIZED (
          SELECT timezone('UTC', now) AS at, (extract(epoch FROM now) * 1e6)::bigint AS microseconds
          FROM clock_timestamp() AS now
        )
        UPDATE oban_jobs AS j
        SET
          state = 'executing',
          attempt = j.attempt + 1,
          attempted_at = (SELECT at FROM instant),
          attempted_by = w.holder
        FROM want AS w
        WHERE j.id = ANY (ARRAY(SELECT id FROM pick)) AND j.queue = w.queue
        RETURNING
          j.id, j.queue, j.worker, j.args, nullif(j.meta, '{}') AS meta, nullif(j.tags, '{}') AS tags,
          CASE WHEN j.errors <> '{}' THEN to_jsonb(j.errors) END AS errors,
          j.attempt, j.max_attempts, j.priority,
          timezone('UTC', greatest(least(j.inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
          CASE
            WHEN j.scheduled_at <> j.inserted_at
            THEN timezone('UTC', greatest(least(j.scheduled_at, '9999-01-01'), '0001-01-03'))
          END AS scheduled_at,
          (SELECT microseconds FROM instant) AS attempted_at
        """,
        [want.queue for want in wants],
        [want.producer for want in wants],
        [want.demand for want in wants],
        node,
        nonce,
    )
    return claimed(records, wants, node, nonce)


def claimed(rows: Sequence[Any], wants: Sequence[Want], node: str, nonce: str) -> list[Job]:
    """Make the jobs of the rows that a claim returns, as they are to start.

    Rows leave out what is empty, and give the one instant of the claim as a number: each time that is decoded costs as
    much as all the rest of a row. They are read by place, because a look for each name would cost a tenth of it.
    """
    if not rows:
        return []
    by = {want.queue: [node, str(want.producer), nonce] for want in wants}
    attempted_at = EPOCH + timedelta(microseconds=rows[0][-1])
    jobs = [
        Job(
            id=id,
            state=JobState.EXECUTING,
            queue=queue,
            worker=worker,
            args=args,
            meta=meta if isinstance(meta, dict) else {},
            tags=tags or [],
            errors=objects(errors) if errors else [],
            attempt=attempt,
            max_attempts=max_attempts,
            priority=priority,
            attempted_by=by[queue].copy(),
            inserted_at=inserted_at,
            scheduled_at=scheduled_at or inserted_at,
            attempted_at=attempted_at,
            completed_at=None,
            cancelled_at=None,
            discarded_at=None,
        )
        for (
            id, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
            inserted_at, scheduled_at, _,
        ) in rows
    ]  # fmt: skip
    jobs.sort(key=attrgetter("priority", "scheduled_at", "id"))
    return jobs


async def held_by(db: Database, *, producers: Sequence[UUID]) -> dict[Claim, bool]:
    """Give every claim that the database holds for these producers: True if its job was cancelled since it began."""
    records = await db.fetch(
        """
        SELECT
          id, attempted_by[3] AS nonce,
          coalesce(meta ->> 'cancel_attempted_at' > to_char(attempted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), false)
        FROM oban_jobs
        WHERE state = 'executing' AND attempted_by[2] = ANY ($1::text[]) AND attempted_by[3] IS NOT NULL
        """,
        [str(producer) for producer in producers],
    )
    return {Claim(id, nonce): cancelled for id, nonce, cancelled in records}


async def release(db: Database, *, claims: Sequence[Claim]) -> list[str]:
    """Give claims back as if they had never been made; the queues to ring, one for each. It looks them up as acks do.

    What was cancelled meanwhile is cancelled. What somebody holds is passed over: it is `held_by` the producer still.
    """
    records = await db.fetch(
        """
        WITH mine AS MATERIALIZED (
          SELECT j.id
          FROM unnest((SELECT $1::bigint[]), (SELECT $2::text[])) AS c (id, nonce)
          JOIN oban_jobs AS j ON j.id = c.id
          WHERE j.state::text = 'executing' AND j.attempted_by[3] = c.nonce
          FOR UPDATE OF j SKIP LOCKED
        )
        UPDATE oban_jobs AS j
        SET
          (state, cancelled_at) = (
            SELECT
              (CASE WHEN cancelled THEN 'cancelled' ELSE 'available' END)::oban_job_state,
              CASE WHEN cancelled THEN timezone('UTC', clock_timestamp()) END
            FROM (
              SELECT j.meta ->> 'cancel_attempted_at' > to_char(j.attempted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US')
            ) AS seen (cancelled)
          ),
          attempt = j.attempt - 1
        WHERE j.id = ANY (ARRAY(SELECT id FROM mine))
        RETURNING j.queue
        """,
        [claim.id for claim in claims],
        [claim.nonce for claim in claims],
    )
    return [record["queue"] for record in records]
