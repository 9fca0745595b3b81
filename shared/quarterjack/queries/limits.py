"""Limits of a queue over all nodes: jobs at once and jobs in a time, each value of an args key for itself.

Queues without them are claimed by `claims.claim`, which knows nothing of this.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from quarterjack.database import Database
from quarterjack.model import Job
from quarterjack.queries import claims
from quarterjack.queries.claims import Want

WINDOW = 1_000
"""How far a claim looks into the queue for other partitions; those that are full take no place in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """At most `global_limit` jobs at once; at most `rate_burst` at once and then `rate_limit` in each `rate_period`.

    With `partition_by`, for each value of that key of args, by its first 500 characters: an index takes no more.
    """

    global_limit: int | None = None
    rate_limit: int | None = None
    rate_period: timedelta | None = None
    rate_burst: int | None = None
    partition_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What was claimed, and the queues in which a limit leaves jobs waiting, with the seconds it took to see that."""

    jobs: list[Job]
    held_back: dict[str, float]


async def claim(db: Database, *, wants: Sequence[Want], node: str, nonce: str) -> Claimed:
    """Claim for queues with limits one by one, for all others in one statement."""
    plain = [want for want in wants if not want.limited]
    jobs = await claims.claim(db, wants=plain, node=node, nonce=nonce) if plain else []
    held_back = {}
    for want in wants:
        if want.limited:
            began = time.monotonic()
            found, left = await claim_limited(db, want=want, node=node, nonce=nonce)
            jobs += found
            if left and len(found) < want.demand:
                held_back[want.queue] = time.monotonic() - began
    return Claimed(jobs=jobs, held_back=held_back)


async def claim_limited(
    db: Database, *, want: Want, node: str, nonce: str
) -> tuple[list[Job], bool]:
    """Claim for one queue within its limits, partitions with the fewest running jobs first; and if jobs are left.

    Invariant: no more than global_limit jobs of a partition are `executing`. They are counted from their rows, in this
    statement's snapshot, so a worker that dies leaks no place. The count holds because nothing else makes them more
    meanwhile: `turn` adds one to `claims`, and only if that is still what the snapshot shows. Of two claims at once the
    second waits for the first's row lock, finds `claims` changed, and takes nothing.
    """
    records = await db.fetch(
        """
        WITH q AS MATERIALIZED (
          SELECT
            *, clock_timestamp() AS at, greatest(rate_period / rate_limit, interval '1 us') AS step,
            least(global_limit, coalesce(rate_burst, rate_limit)) AS most
          FROM qj_queues
          WHERE
            queue = $1 AND node = ''
            AND EXISTS (SELECT FROM qj_producers WHERE uuid = $2::uuid AND state = 'running')
        ),
        busy AS (
          SELECT left(coalesce(j.args ->> q.partition_by, ''), 500) AS part, count(*) AS running
          FROM q
          JOIN oban_jobs AS j ON j.queue = $1 AND j.state = 'executing'
          GROUP BY 1
        ),
        known AS MATERIALIZED (
          SELECT
            part,
            coalesce(b.running, 0) AS running,
            least(
              q.global_limit - coalesce(b.running, 0),
              CASE
                WHEN r.free_at > q.at
                  THEN floor(coalesce(q.rate_burst, q.rate_limit)
                    - extract(epoch FROM r.free_at - q.at) / extract(epoch FROM q.step))
                ELSE coalesce(q.rate_burst, q.rate_limit)
              END
            ) AS room
          FROM q
          CROSS JOIN (
            busy AS b
            FULL JOIN (SELECT part, free_at FROM qj_rates WHERE queue = $1) AS r USING (part)
          )
        ),
        near AS MATERIALIZED (
          SELECT j.id, left(coalesce(j.args ->> q.partition_by, ''), 500) AS part, j.priority, j.scheduled_at
          FROM q
          CROSS JOIN LATERAL (
            SELECT id, args, priority, scheduled_at
            FROM oban_jobs
            WHERE
              state = 'available' AND queue = $1 AND attempt < max_attempts
              AND (
                q.partition_by IS NULL
                OR left(coalesce(args ->> q.partition_by, ''), 500) NOT IN (SELECT part FROM known WHERE room <= 0)
              )
            ORDER BY priority, scheduled_at, id
            LIMIT CASE
              WHEN q.partition_by IS NULL
                THEN greatest(0, least($3::integer, coalesce((SELECT room FROM known WHERE part = ''), q.most)))
              ELSE $6
            END
          ) AS j
        ),
        ranked AS (
          SELECT *, row_number() OVER (PARTITION BY part ORDER BY priority, scheduled_at, id) AS nth FROM near
        ),
        chosen AS MATERIALIZED (
          SELECT r.id, r.part
          FROM q
          CROSS JOIN ranked AS r
          LEFT JOIN known AS k ON k.part = r.part
          WHERE r.nth <= coalesce(k.room, q.most, $3)
          ORDER BY r.nth + coalesce(k.running, 0), r.priority, r.scheduled_at, r.id
          LIMIT $3::integer
        ),
        pick AS MATERIALIZED (
          SELECT id
          FROM oban_jobs
          WHERE id = ANY (ARRAY(SELECT id FROM chosen)) AND state = 'available'
          FOR UPDATE SKIP LOCKED
        ),
        turn AS (
          UPDATE qj_queues AS t
          SET claims = t.claims + 1
          FROM q
          WHERE t.queue = q.queue AND t.node = '' AND t.claims = q.claims AND EXISTS (SELECT FROM pick)
          RETURNING t.queue
        ),
        taken AS (
          UPDATE oban_jobs AS j
          SET
            state = 'executing',
            attempt = j.attempt + 1,
            attempted_at = timezone('UTC', clock_timestamp()),
            attempted_by = ARRAY[$4::text, $2::uuid::text, $5::text]
          FROM turn
          WHERE j.id = ANY (ARRAY(SELECT id FROM pick)) AND j.queue = turn.queue
          RETURNING
            j.id, j.queue, j.worker, j.args, nullif(j.meta, '{}') AS meta, nullif(j.tags, '{}') AS tags,
            CASE WHEN j.errors <> '{}' THEN to_jsonb(j.errors) END AS errors,
            j.attempt, j.max_attempts, j.priority,
            timezone('UTC', greatest(least(j.inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
            timezone('UTC', greatest(least(j.scheduled_at, '9999-01-01'), '0001-01-03')) AS scheduled_at,
            timezone('UTC', j.attempted_at) AS attempted_at
        ),
        spent AS (
          INSERT INTO qj_rates AS r (queue, part, free_at)
          SELECT $1, c.part, q.at + count(*) * q.step
          FROM q
          CROSS JOIN taken AS t
          JOIN chosen AS c ON c.id = t.id
          WHERE q.rate_limit IS NOT NULL
          GROUP BY c.part, q.at, q.step
          ON CONFLICT (queue, part) DO UPDATE
          SET free_at = excluded.free_at + greatest(r.free_at - (SELECT at FROM q), interval '0')
        )
        SELECT
          t.*,
          EXISTS (
            SELECT FROM (
              SELECT
              FROM oban_jobs
              WHERE
                state = 'available' AND queue = $1 AND attempt < max_attempts
                AND id <> ALL (ARRAY(SELECT id FROM taken))
              ORDER BY priority, scheduled_at, id
              OFFSET 0
            ) AS others
          ) AS left
        FROM (SELECT) AS one
        LEFT JOIN taken AS t ON true
        """,
        want.queue,
        want.producer,
        want.demand,
        node,
        nonce,
        WINDOW,
    )
    by = {want.queue: str(want.producer)}
    taken = [list(record)[:-1] for record in records if record["id"] is not None]
    jobs = [claims.claimed(row, node, by, nonce) for row in taken]
    return claims.in_order(jobs), records[0]["left"]


async def read(db: Database, queue: str) -> Limits:
    """Read the limits of a queue."""
    record = await db.fetchrow(
        """
        SELECT global_limit, rate_limit, rate_period, rate_burst, partition_by
        FROM qj_queues
        WHERE queue = $1 AND node = ''
        """,
        queue,
    )
    return Limits(**record) if record else Limits()


async def limit(db: Database, queue: str, limits: Limits, *, by: str, reason: str) -> None:
    """Set the limits of a queue, all of them. Claims read them; that there are some, workers learn within a second.

    It counts as a claim, so that one that has read the earlier limits takes nothing by them.
    """
    await db.execute(
        """
        INSERT INTO qj_queues AS q
          (queue, global_limit, rate_limit, rate_period, rate_burst, partition_by, changed_by, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (queue, node) DO UPDATE SET
          global_limit = $2, rate_limit = $3, rate_period = $4, rate_burst = $5, partition_by = $6,
          changed_at = clock_timestamp(), changed_by = $7, reason = $8, claims = q.claims + 1
        """,
        queue,
        limits.global_limit,
        limits.rate_limit,
        limits.rate_period,
        limits.rate_burst,
        limits.partition_by,
        by,
        reason,
    )
    await _forgive(db, queue)


async def _forgive(db: Database, queue: str) -> None:
    """Let nothing wait longer for what an earlier rate let start than for a whole burst of the present one."""
    await db.execute(
        """
        UPDATE qj_rates AS r
        SET free_at = least(
          r.free_at, clock_timestamp() + coalesce(q.rate_burst, q.rate_limit) * q.rate_period / q.rate_limit
        )
        FROM qj_queues AS q
        WHERE r.queue = $1 AND q.queue = $1 AND q.node = ''
        """,
        queue,
    )


async def forget_rates(db: Database) -> None:
    """Delete what says nothing any more."""
    await db.execute("DELETE FROM qj_rates WHERE free_at < clock_timestamp() - interval '1 minute'")
