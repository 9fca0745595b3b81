"""Claim jobs for this process's queues, find claims whose reply was lost, give claims back.

attempted_by is {node, producer, nonce}: Oban reads the first two, the third marks a claim of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from quarterjack.database import Database
from quarterjack.model import Job
from quarterjack.queries.jobs import to_job


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """How many more jobs a producer can run."""

    queue: str
    producer: UUID
    demand: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What proves that an execution is still ours: `attempted_at` survives ids issued twice."""

    id: int
    attempt: int
    attempted_at: datetime
    producer: str


async def claim(db: Database, *, wants: Sequence[Want], node: str, nonce: str) -> list[Job]:
    """Claim for all queues in one statement, by priority, then age; a condemned producer gets nothing."""
    records = await db.fetch(
        """
        WITH want AS MATERIALIZED (
          SELECT w.queue, w.producer, w.demand
          FROM unnest($1::text[], $2::uuid[], $3::integer[]) AS w (queue, producer, demand)
          JOIN qj_producers AS p ON p.uuid = w.producer AND p.state = 'running'
        ),
        pick AS MATERIALIZED (
          SELECT j.id, w.producer
          FROM want AS w
          CROSS JOIN LATERAL (
            SELECT id
            FROM oban_jobs
            WHERE state = 'available' AND queue = w.queue AND attempt < max_attempts
            ORDER BY priority, scheduled_at, id
            LIMIT w.demand
            FOR UPDATE SKIP LOCKED
          ) AS j
        )
        UPDATE oban_jobs AS j
        SET
          state = 'executing',
          attempt = j.attempt + 1,
          attempted_at = timezone('UTC', clock_timestamp()),
          attempted_by = ARRAY[$4::text, pick.producer::text, $5::text]
        FROM pick
        WHERE j.id = pick.id
        RETURNING
          j.id, j.state::text, j.queue, j.worker, j.args, coalesce(j.meta, '{}') AS meta,
          coalesce(j.tags, '{}') AS tags, to_jsonb(j.errors) AS errors, j.attempt, j.max_attempts, j.priority,
          j.attempted_by,
          timezone('UTC', greatest(least(j.inserted_at, '9999-01-01'), '0001-01-02')) AS inserted_at,
          timezone('UTC', greatest(least(j.scheduled_at, '9999-01-01'), '0001-01-02')) AS scheduled_at,
          timezone('UTC', j.attempted_at) AS attempted_at,
          NULL::timestamptz AS completed_at, NULL::timestamptz AS cancelled_at, NULL::timestamptz AS discarded_at
        """,
        [want.queue for want in wants],
        [want.producer for want in wants],
        [want.demand for want in wants],
        node,
        nonce,
    )
    return [to_job(record) for record in records]


async def held_by(db: Database, *, producers: Sequence[UUID]) -> list[Claim]:
    """Give every claim that the database holds for these producers."""
    records = await db.fetch(
        """
        SELECT id, attempt, timezone('UTC', attempted_at) AS attempted_at, attempted_by[2] AS producer
        FROM oban_jobs
        WHERE state = 'executing' AND attempted_by[2] = ANY ($1::text[])
        """,
        [str(producer) for producer in producers],
    )
    return [Claim(**record) for record in records]


async def release(db: Database, *, claims: Sequence[Claim]) -> list[str]:
    """Give claims back as if they had never been made; the queues to ring."""
    records = await db.fetch(
        """
        UPDATE oban_jobs AS j
        SET state = 'available', attempt = j.attempt - 1
        FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::text[])
          AS c (id, attempt, attempted_at, producer)
        WHERE
          j.id = c.id
          AND j.state = 'executing'
          AND j.attempt = c.attempt
          AND j.attempted_at = timezone('UTC', c.attempted_at)
          AND j.attempted_by[2] = c.producer
        RETURNING j.queue
        """,
        [claim.id for claim in claims],
        [claim.attempt for claim in claims],
        [claim.attempted_at for claim in claims],
        [claim.producer for claim in claims],
    )
    return [record["queue"] for record in records]
