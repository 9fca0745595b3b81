"""What Oban Web shows of a whole database."""

from collections.abc import Sequence
from typing import Any

from quarterjack.database import Database


async def count_jobs(db: Database, states: Sequence[str]) -> list[tuple[str, str, int]]:
    """Count the jobs in these states: state, queue, number.

    The states are not cast in the statement: then the planner does not see how few jobs they have.
    """
    records = await db.fetch(
        """
        SELECT state::text, queue, count(*) AS jobs
        FROM oban_jobs
        WHERE state = ANY ($1::oban_job_state[])
        GROUP BY state, queue
        ORDER BY state, queue
        """,
        list(states),
    )
    return [(record["state"], record["queue"], record["jobs"]) for record in records]


async def crontab(db: Database, *, limit: int) -> list[dict[str, Any]]:
    """Give the schedules that run at present, the oldest first."""
    records = await db.fetch(
        """
        SELECT name, cron, worker, args, queue, timezone, priority, max_attempts, tags
        FROM qj_schedules
        WHERE paused_at IS NULL AND next_run_at IS NOT NULL
        ORDER BY id
        LIMIT $1
        """,
        limit,
    )
    return [dict(record) for record in records]
