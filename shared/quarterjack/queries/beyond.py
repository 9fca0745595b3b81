"""What waits in a queue with a limit for each value of a key, behind more jobs of others than a claim looks at."""

from quarterjack.database import Database
from quarterjack.queries.limited_claims import WINDOW

EACH = 100


async def first_of_each(db: Database, *, queue: str) -> list[int]:
    """Give up to EACH of the first available jobs of each value, WINDOW of all: first of values that have room now.

    It reads the whole backlog, which takes about a second for a million jobs.
    """
    records = await db.fetch(
        """
        WITH q AS MATERIALIZED (
          SELECT *, rate_period / rate_limit AS step, coalesce(rate_burst, rate_limit) AS burst
          FROM qj_queues
          WHERE queue = $1 AND node = '' AND partition_by IS NOT NULL
        ),
        filled AS MATERIALIZED (
          SELECT left(coalesce(j.args ->> q.partition_by, ''), 500) AS part
          FROM q
          JOIN oban_jobs AS j ON j.queue = $1 AND j.state = 'executing'
          GROUP BY 1, q.global_limit
          HAVING count(*) >= q.global_limit
          UNION ALL
          SELECT r.part
          FROM q
          JOIN qj_rates AS r ON r.queue = $1
          WHERE r.free_at - clock_timestamp() > (q.burst - 1) * q.step
        )
        SELECT id
        FROM (
          SELECT
            id, priority, scheduled_at,
            part IN (SELECT part FROM filled) AS waits,
            row_number() OVER (PARTITION BY part ORDER BY priority, scheduled_at, id) AS nth
          FROM (
            SELECT j.id, j.priority, j.scheduled_at, left(coalesce(j.args ->> q.partition_by, ''), 500) AS part
            FROM q
            JOIN oban_jobs AS j
              ON j.queue = q.queue AND j.state = 'available' AND j.attempt < j.max_attempts
          ) AS backlog
        ) AS ranked
        WHERE nth <= $2
        ORDER BY waits, nth, priority, scheduled_at, id
        LIMIT $3
        """,
        queue,
        EACH,
        WINDOW,
    )
    return [record["id"] for record in records]
