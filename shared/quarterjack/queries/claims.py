"""Claim jobs for this process's queues, find claims whose reply was lost, give claims back.

attempted_by is {node, producer, nonce}: Oban reads the first two, the third marks a claim of ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from quarterjack.database import Database
from quarterjack.model import Job, JobState
from quarterjack.queries.jobs import objects


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


Key = tuple[int, datetime]


@dataclass(slots=True, kw_only=True)
class Claim:
    """What proves that an execution is still ours: `attempted_at` survives ids issued twice."""

    id: int
    attempt: int
    attempted_at: datetime
    producer: str
    key: Key = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.key = self.id, self.attempted_at


async def claim(db: Database, *, wants: Sequence[Want], node: str, nonce: str) -> list[Job]:
    """Claim for all queues in one statement, by priority, then age; a condemned producer gets nothing.

    What was picked goes to the update as an array, so that it is looked up by id: the planner takes a limit that it
    cannot see for a tenth of the queue, and would read the whole table for a join.
    """
    records = await db.fetch(
        """
        WITH want AS MATERIALIZED (
          SELECT w.queue, w.producer, w.demand
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
        )
        UPDATE oban_jobs AS j
        SET
          state = 'executing',
          attempt = j.attempt + 1,
          attempted_at = timezone('UTC', clock_timestamp()),
          attempted_by = ARRAY[$4::text, w.producer::text, $5::text]
        FROM want AS w
        WHERE j.id = ANY (ARRAY(SELECT id FROM pick)) AND j.queue = w.queue
        RETURNING
          j.id, j.queue, j.worker, j.args, nullif(j.meta, '{}') AS meta, nullif(j.tags, '{}') AS tags,
          CASE WHEN j.errors <> '{}' THEN to_jsonb(j.errors) END AS errors,
          j.attempt, j.max_attempts, j.priority,
          timezone('UTC', greatest(least(j.inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
          timezone('UTC', greatest(least(j.scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
          timezone('UTC', j.attempted_at) AS attempted_at
        """,
        [want.queue for want in wants],
        [want.producer for want in wants],
        [want.demand for want in wants],
        node,
        nonce,
    )
    by = {want.queue: str(want.producer) for want in wants}
    return in_order([claimed(record, node, by, nonce) for record in records])


def in_order(found: list[Job]) -> list[Job]:
    """Sort jobs as they are to start."""
    return sorted(found, key=attrgetter("priority", "scheduled_at", "id"))


def claimed(row: Iterable[Any], node: str, producers: Mapping[str, str], nonce: str) -> Job:
    """Make the job of a row as a claim returns it, which leaves out what is empty; `producers` are by queue.

    By place, because a look for each name would be a tenth of what a worker does for a job.
    """
    (
        id, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
        inserted_at, scheduled_at, attempted_at,
    ) = row  # fmt: skip
    return Job(
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
        attempted_by=[node, producers[queue], nonce],
        inserted_at=inserted_at,
        scheduled_at=scheduled_at,
        attempted_at=attempted_at,
        completed_at=None,
        cancelled_at=None,
        discarded_at=None,
    )


async def held_by(db: Database, *, producers: Sequence[UUID]) -> list[tuple[Claim, str | None]]:
    """Give every claim that the database holds for these producers, and the nonce of the statement that made it."""
    records = await db.fetch(
        """
        SELECT
          id, attempt, timezone('UTC', attempted_at) AS attempted_at, attempted_by[2] AS producer,
          attempted_by[3] AS nonce
        FROM oban_jobs
        WHERE state = 'executing' AND attempted_by[2] = ANY ($1::text[])
        """,
        [str(producer) for producer in producers],
    )
    return [
        (
            Claim(
                id=record["id"],
                attempt=record["attempt"],
                attempted_at=record["attempted_at"],
                producer=record["producer"],
            ),
            record["nonce"],
        )
        for record in records
    ]


async def release(db: Database, *, claims: Sequence[Claim]) -> list[str]:
    """Give claims back as if they had never been made; the queues to ring, one for each. It looks them up as acks do.

    What somebody holds is passed over: it is `held_by` the producer still.
    """
    records = await db.fetch(
        """
        WITH mine AS MATERIALIZED (
          SELECT j.id
          FROM
            unnest(
              (SELECT $1::bigint[]), (SELECT $2::integer[]), (SELECT $3::timestamptz[]), (SELECT $4::text[])
            ) AS c (id, attempt, attempted_at, producer)
          JOIN oban_jobs AS j ON j.id = c.id
          WHERE
            j.state::text = 'executing'
            AND j.attempt = c.attempt
            AND j.attempted_at = timezone('UTC', c.attempted_at)
            AND j.attempted_by[2] = c.producer
          FOR UPDATE OF j SKIP LOCKED
        )
        UPDATE oban_jobs AS j
        SET state = 'available', attempt = j.attempt - 1
        WHERE j.id = ANY (ARRAY(SELECT id FROM mine))
        RETURNING j.queue
        """,
        [claim.id for claim in claims],
        [claim.attempt for claim in claims],
        [claim.attempted_at for claim in claims],
        [claim.producer for claim in claims],
    )
    return [record["queue"] for record in records]
