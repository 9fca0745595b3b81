"""What waits in a queue with a limit for each value of a key, behind more jobs of others than a claim looks at."""

from quarterjack.database import Database
from quarterjack.queries.limited_claims import WINDOW

EACH = 100


async def first_of_each(db: Database, *, queue: str) -> list[int]:
    """Give up to EACH of the first available jobs of each value, WINDOW of all.

    It reads the whole backlog, which takes about a second for a million jobs.
    """
    records = await db.fetch(
        """
        SELECT id
        FROM (
          SELECT
            j.id, j.priority, j.scheduled_at,
            row_number() OVER (
              PARTITION BY left(coalesce(j.args ->> q.partition_by, ''), 500)
              ORDER BY j.priority, j.scheduled_at, j.id
            ) AS nth
          FROM qj_queues AS q
          JOIN oban_jobs AS j
            ON j.queue = q.queue AND j.state = 'available' AND j.attempt < j.max_attempts
          WHERE q.queue = $1 AND q.node = '' AND q.partition_by IS NOT NULL
        ) AS ranked
        WHERE nth <= $2
        ORDER BY nth, priority, scheduled_at, id
        LIMIT $3
        """,
        queue,
        EACH,
        WINDOW,
    )
    return [record["id"] for record in records]
