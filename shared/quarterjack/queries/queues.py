"""How queues are steered: what was asked for, kept beyond the life of a worker, and how each stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quarterjack.database import Database

ALL = ""
OWN_LIMIT = 0
LARGEST_LIMIT = 10_000
"""So many jobs of a queue at most may run on a node at once."""
COUNTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What someone asks of a queue; None leaves as it is. `limit` OWN_LIMIT: that of the worker's command line."""

    paused: bool | None = None
    stopped: bool | None = None
    limit: int | None = None

    def then(self, later: "Change") -> "Change":
        """Give both as one, the later before the earlier."""
        return Change(
            paused=self.paused if later.paused is None else later.paused,
            stopped=self.stopped if later.stopped is None else later.stopped,
            limit=self.limit if later.limit is None else later.limit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """A row of qj_queues: what was asked of a queue on one node, or on ALL; None where nothing was."""

    node: str
    paused: bool | None
    stopped: bool | None
    local_limit: int | None
    changed_at: datetime
    changed_by: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A queue as its live workers show it; `available` counts up to COUNTED + 1."""

    queue: str
    available: int
    oldest_at: datetime | None
    nodes: int
    limit: int
    running: int
    resting: int
    paused: bool
    stopped: bool


async def steer(
    db: Database, queue: str, change: Change, *, node: str, by: str, reason: str | None = None
) -> bool:
    """Keep what was asked for one node, or for ALL, which ends what was asked for single ones; False if it was so.

    The rows of a queue are locked in one order, so that two who steer take turns.
    """
    return bool(
        await db.fetchval(
            """
            WITH held AS MATERIALIZED (
              SELECT node FROM qj_queues WHERE queue = $1 ORDER BY node FOR UPDATE
            ),
            cleared AS (
              UPDATE qj_queues AS q
              SET
                paused = CASE WHEN $3 IS NULL THEN q.paused END,
                stopped = CASE WHEN $4 IS NULL THEN q.stopped END,
                local_limit = CASE WHEN $5 IS NULL THEN q.local_limit END
              FROM held AS h
              WHERE
                q.queue = $1 AND q.node = h.node AND q.node <> '' AND $2 = ''
                AND (
                  ($3::boolean IS NOT NULL AND q.paused IS NOT NULL)
                  OR ($4::boolean IS NOT NULL AND q.stopped IS NOT NULL)
                  OR ($5::integer IS NOT NULL AND q.local_limit IS NOT NULL)
                )
              RETURNING q.node
            ),
            kept AS (
              INSERT INTO qj_queues AS q (queue, node, paused, stopped, local_limit, changed_by, reason)
              SELECT $1, $2, $3, $4, nullif($5, 0), $6, $7
              FROM (SELECT count(*) FROM held) AS waited
              ON CONFLICT (queue, node) DO UPDATE SET
                paused = coalesce($3, q.paused),
                stopped = coalesce($4, q.stopped),
                local_limit = CASE WHEN $5 IS NULL THEN q.local_limit ELSE nullif($5, 0) END,
                changed_at = clock_timestamp(),
                changed_by = $6,
                reason = $7
              WHERE
                ($3 IS NOT NULL AND $3 IS DISTINCT FROM q.paused)
                OR ($4 IS NOT NULL AND $4 IS DISTINCT FROM q.stopped)
                OR ($5 IS NOT NULL AND nullif($5, 0) IS DISTINCT FROM q.local_limit)
                OR EXISTS (SELECT FROM cleared)
              RETURNING q.node
            )
            SELECT EXISTS (SELECT FROM kept)
            """,
            queue,
            node,
            change.paused,
            change.stopped,
            change.limit,
            by,
            reason,
        )
    )


async def steered(db: Database, queue: str) -> list[Steered]:
    """Read what was asked of a queue: for ALL first, then node by node."""
    records = await db.fetch(
        """
        SELECT node, paused, stopped, local_limit, changed_at, changed_by, reason
        FROM qj_queues
        WHERE queue = $1
        ORDER BY node
        LIMIT 1000
        """,
        queue,
    )
    return [Steered(**record) for record in records]


async def standings(
    db: Database, *, queue: str | None = None, after: str = "", limit: int = 200
) -> list[Standing]:
    """Show queues after a name, or one, that have available jobs or a live worker, or were steered.

    Steps from queue to queue on an index, and for the oldest job from priority to priority.
    """
    records = await db.fetch(
        """
        WITH RECURSIVE waiting (queue) AS (
          SELECT min(queue) FROM oban_jobs WHERE state = 'available' AND queue > $3
          UNION ALL
          SELECT (SELECT min(j.queue) FROM oban_jobs AS j WHERE j.state = 'available' AND j.queue > w.queue)
          FROM waiting AS w
          WHERE w.queue IS NOT NULL
        ),
        live AS (
          SELECT *
          FROM qj_producers
          WHERE state <> 'dead' AND heartbeat_at > clock_timestamp() - interval '15 seconds'
        ),
        names AS (
          SELECT $1::text AS queue WHERE $1 IS NOT NULL
          UNION
          (SELECT queue FROM waiting WHERE $1 IS NULL AND queue IS NOT NULL LIMIT $4)
          UNION
          SELECT queue FROM qj_queues WHERE $1 IS NULL AND queue > $3
          UNION
          SELECT queue FROM live WHERE $1 IS NULL AND queue > $3
          ORDER BY queue
          LIMIT $4
        )
        SELECT
          n.queue, few.available, timezone('UTC', oldest.at) AS oldest_at,
          p.nodes, p.local_limit AS limit, p.running, p.resting,
          coalesce(q.paused, false) AS paused, coalesce(q.stopped, false) AS stopped
        FROM names AS n
        LEFT JOIN qj_queues AS q ON q.queue = n.queue AND q.node = ''
        CROSS JOIN LATERAL (
          SELECT count(*) AS available
          FROM (SELECT FROM oban_jobs WHERE state = 'available' AND queue = n.queue LIMIT $2 + 1) AS first
        ) AS few
        CROSS JOIN LATERAL (
          WITH RECURSIVE first (priority, scheduled_at) AS (
            (
              SELECT priority, scheduled_at
              FROM oban_jobs
              WHERE state = 'available' AND queue = n.queue
              ORDER BY priority, scheduled_at
              LIMIT 1
            )
            UNION ALL
            SELECT next.priority, next.scheduled_at
            FROM first
            CROSS JOIN LATERAL (
              SELECT priority, scheduled_at
              FROM oban_jobs
              WHERE state = 'available' AND queue = n.queue AND priority > first.priority
              ORDER BY priority, scheduled_at
              LIMIT 1
            ) AS next
          )
          SELECT min(greatest(least(scheduled_at, '9999-01-01'), '0001-01-03')) AS at
          FROM (SELECT scheduled_at FROM first LIMIT 100) AS each
        ) AS oldest
        CROSS JOIN LATERAL (
          SELECT
            count(*) AS nodes, coalesce(sum(local_limit), 0)::bigint AS local_limit,
            coalesce(sum(running), 0)::bigint AS running, count(*) FILTER (WHERE paused) AS resting
          FROM live
          WHERE queue = n.queue
        ) AS p
        ORDER BY n.queue
        """,
        queue,
        COUNTED,
        after,
        limit,
    )
    return [Standing(**record) for record in records]


async def signal(db: Database, payloads: Sequence[str]) -> None:
    """Tell every producer, ours and other Obans', what `steer` keeps; ours hear first that it does."""
    await db.execute(
        """
        SELECT
          pg_notify(current_schema() || '.qj_queues', payload),
          pg_notify(current_schema() || '.oban_signal', payload)
        FROM unnest($1::text[]) AS m (payload)
        """,
        payloads,
    )
