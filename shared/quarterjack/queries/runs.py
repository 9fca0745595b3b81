"""Jobs as an admin sees, counts and steers them.

Lists come in two steps: a short statement finds a page of ids on an index, `shown.read` fetches the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quarterjack.database import Database
from quarterjack.model import Job, JobState
from quarterjack.queries import jobs
from quarterjack.queries.jobs import within_calendar

COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a sparkline and a last-run cell need of a job."""

    id: int
    state: str
    scheduled_at: datetime
    attempted_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A row of qj_ticks that enqueued nothing; `until_at` makes it a range."""

    tick_at: datetime
    until_at: datetime | None
    ticks: int | None
    outcome: str
    reason: str | None
    job_id: int | None
    version: int
    decided_at: datetime


async def latest(db: Database, names: Sequence[str], *, each: int) -> dict[str, list[Run]]:
    """Give the newest runs of each schedule, newest first, in one statement."""
    records = await db.fetch(
        """
        SELECT
          s.name, r.id, r.state::text,
          timezone('UTC', greatest(least(r.scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
          CASE WHEN r.attempted_at BETWEEN '0001-01-03' AND '9999-01-01' THEN r.attempted_at END AS attempted_at,
          CASE WHEN r.ended_at BETWEEN '0001-01-03' AND '9999-01-01' THEN r.ended_at END AS ended_at
        FROM unnest($1::text[]) AS s (name)
        CROSS JOIN LATERAL (
          SELECT
            id, state, scheduled_at, attempted_at, coalesce(completed_at, discarded_at, cancelled_at) AS ended_at
          FROM oban_jobs
          WHERE meta ? 'cron_name' AND meta ->> 'cron_name' = s.name
          ORDER BY id DESC
          LIMIT $2
        ) AS r
        """,
        list(names),
        each,
    )
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for record in records:
        runs[record["name"]].append(
            Run(
                id=record["id"],
                state=record["state"],
                scheduled_at=within_calendar(record["scheduled_at"]) or record["scheduled_at"],
                attempted_at=within_calendar(record["attempted_at"]),
                ended_at=within_calendar(record["ended_at"]),
            )
        )
    return runs


async def of_schedule(db: Database, name: str, *, edge: int | None, limit: int) -> list[int]:
    """Find a schedule's jobs from the highest id down; the edge is left out."""
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          meta ? 'cron_name' AND meta ->> 'cron_name' = $1
          AND ($2::bigint IS NULL OR id < $2)
        ORDER BY id DESC
        LIMIT $3
        """,
        name,
        edge,
        limit,
    )
    return [record["id"] for record in records]


async def of_schedule_back(db: Database, name: str, *, edge: int, limit: int) -> list[int]:
    """Find a schedule's jobs just above the edge, in ascending order."""
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE meta ? 'cron_name' AND meta ->> 'cron_name' = $1 AND id > $2
        ORDER BY id
        LIMIT $3
        """,
        name,
        edge,
        limit,
    )
    return [record["id"] for record in records]


async def counts(db: Database, *, queue: str | None) -> dict[str, int]:
    """Count each state, up to COUNTED; one more than that means at least so many.

    The index gives the order, and a limit of which the planner knows nothing makes it worth while, however many jobs of
    other states there are.
    """
    records = await db.fetch(
        """
        SELECT s.state::text, c.found
        FROM unnest(enum_range(NULL::oban_job_state)) AS s (state)
        CROSS JOIN LATERAL (
          SELECT count(*) AS found
          FROM (
            SELECT
            FROM oban_jobs
            WHERE
              state = s.state
              AND ($1::text IS NULL OR queue = $1)
            ORDER BY queue, priority, scheduled_at, id
            LIMIT (SELECT 10001)
          ) AS capped
        ) AS c
        """,
        queue,
    )
    return {record["state"]: record["found"] for record in records}


async def counts_above(
    db: Database, *, worker: str | None, queue: str | None, bound: int
) -> dict[str, int]:
    """Count each state above the bound, in one look at all jobs there."""
    records = await db.fetch(
        """
        SELECT state::text, count(*) AS found
        FROM oban_jobs
        WHERE id > $3 AND ($1::text IS NULL OR worker = $1) AND ($2::text IS NULL OR queue = $2)
        GROUP BY state
        """,
        worker,
        queue,
        bound,
    )
    return dict.fromkeys(map(str, JobState), 0) | {each["state"]: each["found"] for each in records}


async def not_enqueued(db: Database, schedule_id: int, *, limit: int) -> list[Tick]:
    """List the newest ticks that made no job, newest first."""
    records = await db.fetch(
        """
        SELECT tick_at, until_at, ticks, outcome, reason, job_id, version, decided_at
        FROM qj_ticks
        WHERE schedule_id = $1 AND outcome <> 'enqueued'
        ORDER BY tick_at DESC
        LIMIT $2
        """,
        schedule_id,
        limit,
    )
    return [Tick(**record) for record in records]


async def take_turn(db: Database, key: str) -> None:
    """Wait for others who act under the same key, until the transaction ends."""
    await db.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", key)


async def of_request(db: Database, key: str) -> int | None:
    """Find the job that a request made before."""
    id: int | None = await db.fetchval(
        """
        SELECT id
        FROM oban_jobs
        WHERE meta @> jsonb_build_object('request_id', $1::text)
        LIMIT 1
        """,
        key,
    )
    return id


async def hold(db: Database, id: int) -> Job | None:
    """Read one job and keep its row until the transaction ends."""
    await db.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", id)
    return await jobs.find(db, id)
