"""Jobs and producers in any state, as the leader may find them."""

import json
from typing import Any
from uuid import UUID, uuid4

from quarterjack.database import Database
from tests.conftest import TestDatabase

STATES = "SELECT worker, state::text AS state FROM oban_jobs"
WAITS = """
SELECT scheduled_at > inserted_at AND scheduled_at < timezone('UTC', clock_timestamp()) + interval '4 s'
FROM oban_jobs WHERE worker = 'tried'
"""


async def add_job(db: Database, worker: str, **columns: Any) -> int:
    id: int = await db.fetchval(
        """
        INSERT INTO oban_jobs
          (worker, state, attempt, max_attempts, scheduled_at, attempted_at, attempted_by, meta, completed_at)
        SELECT
          $1, coalesce(state, 'available')::oban_job_state, coalesce(attempt, 0), coalesce(max_attempts, 20),
          timezone('UTC', now()) + coalesce(due_in, '0'), timezone('UTC', now()), attempted_by, coalesce(meta, '{}'),
          timezone('UTC', now()) - completed_ago
        FROM jsonb_to_record($2::text::jsonb) AS j (
          state text, attempt integer, max_attempts integer, due_in interval, attempted_by text[], meta jsonb,
          completed_ago interval
        )
        RETURNING id
        """,
        worker,
        json.dumps(columns, default=str),
    )
    return id


async def add_producer(db: Database, *, silent_for: str = "0", state: str = "running") -> UUID:
    uuid = uuid4()
    await db.execute(
        """
        INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, state, heartbeat_at)
        VALUES ($1, 'Oban', 'n', 1, '0', 'default', 5, $2, clock_timestamp() - $3::text::interval)
        """,
        uuid,
        state,
        silent_for,
    )
    return uuid


async def states(database: TestDatabase) -> dict[str, str]:
    return {row["worker"]: row["state"] for row in await database.pool.fetch(STATES)}
