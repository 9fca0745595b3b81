"""Pages of job ids: each order has its own index, its own clock, and both directions.

`edge` is the (time, id) or id of the row at the page's edge; `back` pages towards the beginning.
Needs force_custom_plan, so that the planner sees which filters are empty and which partial index fits.
"""

from datetime import datetime

from quarterjack.database import Database


async def by_id(
    db: Database,
    *,
    state: str | None,
    worker: str | None,
    queue: str | None,
    edge: int | None,
    bound: int | None,
    limit: int,
) -> list[int]:
    """Find jobs from the highest id down, above the bound; edge and bound are left out.

    Those of a state without an index by id are sorted: in the order of ids the planner would read all history for them.
    """
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          ($1::oban_job_state IS NULL OR state = $1)
          AND ($2::text IS NULL OR worker = $2)
          AND ($3::text IS NULL OR queue = $3)
          AND ($4::bigint IS NULL OR id < $4)
          AND ($5::bigint IS NULL OR id > $5)
        ORDER BY CASE WHEN $1 IN ('available', 'suspended') THEN id + 0 ELSE id END DESC
        LIMIT $6
        """,
        state,
        worker,
        queue,
        edge,
        bound,
        limit,
    )
    return [record["id"] for record in records]


async def by_id_back(
    db: Database,
    *,
    state: str | None,
    worker: str | None,
    queue: str | None,
    edge: int | None,
    bound: int | None,
    limit: int,
) -> list[int]:
    """Find jobs from the lowest id up, below the bound, as `by_id` does; edge and bound are left out."""
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          ($1::oban_job_state IS NULL OR state = $1)
          AND ($2::text IS NULL OR worker = $2)
          AND ($3::text IS NULL OR queue = $3)
          AND ($4::bigint IS NULL OR id > $4)
          AND ($5::bigint IS NULL OR id < $5)
        ORDER BY CASE WHEN $1 IN ('available', 'suspended') THEN id + 0 ELSE id END
        LIMIT $6
        """,
        state,
        worker,
        queue,
        edge,
        bound,
        limit,
    )
    return [record["id"] for record in records]


async def newest(db: Database) -> int:
    """Give the highest id; 0 without jobs."""
    id: int = await db.fetchval("SELECT coalesce(max(id), 0) FROM oban_jobs")
    return id


async def by_due(
    db: Database, *, state: str, queue: str | None, edge: tuple[datetime, int] | None, limit: int
) -> list[int]:
    """Find scheduled or retryable jobs by the instant at which they are due, the first first."""
    at, id = edge or (None, None)
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          state = $1::oban_job_state
          AND state IN ('scheduled', 'retryable')
          AND ($2::text IS NULL OR queue = $2)
          AND ($3::timestamptz IS NULL OR (scheduled_at, id) > (timezone('UTC', $3), $4::bigint))
        ORDER BY scheduled_at, id
        LIMIT $5
        """,
        state,
        queue,
        at,
        id,
        limit,
    )
    return [record["id"] for record in records]


async def by_due_back(
    db: Database, *, state: str, queue: str | None, edge: tuple[datetime, int], limit: int
) -> list[int]:
    """Find the jobs due just before the edge, the last first."""
    at, id = edge
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          state = $1::oban_job_state
          AND state IN ('scheduled', 'retryable')
          AND ($2::text IS NULL OR queue = $2)
          AND (scheduled_at, id) < (timezone('UTC', $3::timestamptz), $4::bigint)
        ORDER BY scheduled_at DESC, id DESC
        LIMIT $5
        """,
        state,
        queue,
        at,
        id,
        limit,
    )
    return [record["id"] for record in records]


async def executing(
    db: Database, *, queue: str | None, edge: tuple[datetime, int] | None, limit: int
) -> list[int]:
    """Find running jobs, the longest running first."""
    at, id = edge or (None, None)
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          state = 'executing'
          AND ($1::text IS NULL OR queue = $1)
          AND ($2::timestamptz IS NULL OR (attempted_at, id) > (timezone('UTC', $2), $3::bigint))
        ORDER BY attempted_at, id
        LIMIT $4
        """,
        queue,
        at,
        id,
        limit,
    )
    return [record["id"] for record in records]


async def executing_back(
    db: Database, *, queue: str | None, edge: tuple[datetime, int], limit: int
) -> list[int]:
    """Find the running jobs that started just before the edge, the last started first."""
    at, id = edge
    records = await db.fetch(
        """
        SELECT id
        FROM oban_jobs
        WHERE
          state = 'executing'
          AND ($1::text IS NULL OR queue = $1)
          AND (attempted_at, id) < (timezone('UTC', $2::timestamptz), $3::bigint)
        ORDER BY attempted_at DESC, id DESC
        LIMIT $4
        """,
        queue,
        at,
        id,
        limit,
    )
    return [record["id"] for record in records]
