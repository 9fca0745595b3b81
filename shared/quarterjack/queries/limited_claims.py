"""Claim within the limits of a queue over all nodes.

Queues without them are claimed by `claims.claim`, which knows nothing of this.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from quarterjack.database import Database
from quarterjack.model import Job
from quarterjack.queries import claims
from quarterjack.queries.claims import Want

WINDOW, FARTHEST = 1_000, 20_000
"""A claim looks at so many jobs of partitions that are not full, among so many of the queue.

Where there are more, it is `crowded`: others may wait behind them, as `beyond` finds out.
"""
SPARE = 25
"""A claim passes so many jobs by that others hold, in a partition; who holds more holds it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a claim for one queue saw: `held_back` if it left jobs of which it could have run more.

    `full`: jobs at once are limited, so each end may make room. `room_in`: a rate gives room after so many seconds, and
    at any time if that is 0; None without a rate.
    `crowded`: it did not see the jobs of all partitions. It took `took` seconds.
    """

    took: float
    held_back: bool = False
    full: bool = False
    room_in: float | None = None
    crowded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What was claimed, and what was seen of the queues with limits."""

    jobs: list[Job]
    looks: dict[str, Look]


async def claim(db: Database, *, wants: Sequence[Want], node: str, nonce: str) -> Claimed:
    """Claim for queues with limits one by one, for all others in one statement."""
    plain = [want for want in wants if not want.limited]
    jobs = await claims.claim(db, wants=plain, node=node, nonce=nonce) if plain else []
    looks = {}
    for want in wants:
        if want.limited:
            found, looks[want.queue] = await claim_limited(db, want=want, node=node, nonce=nonce)
            jobs += found
    return Claimed(jobs=jobs, looks=looks)


async def claim_limited(
    db: Database, *, want: Want, node: str, nonce: str
) -> tuple[list[Job], Look]:
    """Claim for one queue within its limits, partitions with the fewest running jobs first.

    It sees the first jobs of the queue, and those of `far`. For those that somebody holds it takes spare ones, which
    stand behind all others in `chosen` and are locked only then.

    Invariant: no more than global_limit jobs of a partition are `executing`. They are counted from their rows, in this
    statement's snapshot, so a worker that dies leaks no place. The count holds because nothing else makes them more
    meanwhile: `turn` adds one to `claims`, and only if that is still what the snapshot shows. Of two claims at once the
    second finds the row held, or `claims` changed, and takes nothing. It waits for nobody: a program that keeps the row
    for long, to edit the limits, would hold up the other queues of the worker.
    """
    began = time.monotonic()
    records = await db.fetch(
        """
        WITH q AS MATERIALIZED (
          SELECT
            *, (extract(epoch FROM at) * 1e6)::bigint AS microseconds,
            greatest(rate_period / rate_limit, interval '1 us') AS step,
            coalesce(rate_burst, rate_limit) AS burst,
            least(global_limit, coalesce(rate_burst, rate_limit)) AS most
          FROM qj_queues, clock_timestamp() AS at
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
                  THEN floor(q.burst - extract(epoch FROM r.free_at - q.at) / extract(epoch FROM q.step))
                ELSE q.burst
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
            SELECT *
            FROM (
              SELECT id, args, priority, scheduled_at
              FROM oban_jobs
              WHERE state = 'available' AND queue = $1 AND attempt < max_attempts
              ORDER BY priority, scheduled_at, id
              LIMIT $9
            ) AS reach
            WHERE
              q.partition_by IS NULL
              OR left(coalesce(args ->> q.partition_by, ''), 500) NOT IN (SELECT part FROM known WHERE room <= 0)
            ORDER BY priority, scheduled_at, id
            LIMIT CASE
              WHEN q.partition_by IS NOT NULL THEN $6
              WHEN coalesce((SELECT room FROM known WHERE part = ''), 1) > 0 THEN $3::integer + $8
              ELSE 0
            END
          ) AS j
        ),
        seen AS (
          SELECT * FROM near
          UNION
          SELECT j.id, left(coalesce(j.args ->> q.partition_by, ''), 500), j.priority, j.scheduled_at
          FROM q
          CROSS JOIN unnest($7::bigint[]) AS f (id)
          CROSS JOIN LATERAL (
            SELECT id, args, priority, scheduled_at
            FROM oban_jobs
            WHERE id = f.id AND state::text = 'available' AND queue = $1 AND attempt < max_attempts
            OFFSET 0
          ) AS j
        ),
        ranked AS (
          SELECT *, row_number() OVER (PARTITION BY part ORDER BY priority, scheduled_at, id) AS nth FROM seen
        ),
        chosen AS MATERIALIZED (
          SELECT *, nth > room AS spare
          FROM (
            SELECT
              r.id, r.part, r.nth, r.priority, r.scheduled_at,
              coalesce(k.running, 0) AS running, coalesce(k.room, q.most, $3) AS room
            FROM q
            CROSS JOIN ranked AS r
            LEFT JOIN known AS k ON k.part = r.part
          ) AS c
          WHERE room > 0 AND nth <= room + $8
          ORDER BY nth > room, nth + running, priority, scheduled_at, id
          LIMIT $3::integer + $8
        ),
        held AS MATERIALIZED (
          SELECT c.id, c.part, c.nth, c.room
          FROM chosen AS c
          CROSS JOIN LATERAL (
            SELECT FROM oban_jobs WHERE id = c.id AND state::text = 'available' FOR UPDATE SKIP LOCKED
          ) AS j
          LIMIT (SELECT least($3::integer, count(*)) FROM chosen WHERE NOT spare)
        ),
        pick AS MATERIALIZED (
          SELECT id, part
          FROM (SELECT *, row_number() OVER (PARTITION BY part ORDER BY nth) AS place FROM held) AS h
          WHERE place <= room
        ),
        free AS MATERIALIZED (
          SELECT claims FROM qj_queues WHERE queue = $1 AND node = '' FOR NO KEY UPDATE SKIP LOCKED
        ),
        turn AS (
          UPDATE qj_queues AS t
          SET claims = t.claims + 1
          FROM q
          JOIN free USING (claims)
          WHERE t.queue = q.queue AND t.node = '' AND EXISTS (SELECT FROM pick)
          RETURNING t.queue
        ),
        taken AS (
          UPDATE oban_jobs AS j
          SET
            state = 'executing',
            attempt = j.attempt + 1,
            attempted_at = timezone('UTC', q.at),
            attempted_by = ARRAY[$4::text, $2::uuid::text, $5::text]
          FROM turn
          JOIN q USING (queue)
          WHERE j.id = ANY (ARRAY(SELECT id FROM pick)) AND j.queue = turn.queue
          RETURNING
            j.id, j.queue, j.worker, j.args, nullif(j.meta, '{}') AS meta, nullif(j.tags, '{}') AS tags,
            CASE WHEN j.errors <> '{}' THEN to_jsonb(j.errors) END AS errors,
            j.attempt, j.max_attempts, j.priority,
            timezone('UTC', greatest(least(j.inserted_at, '9999-01-01'), '0001-01-03')) AS inserted_at,
            CASE
              WHEN j.scheduled_at <> j.inserted_at
              THEN timezone('UTC', greatest(least(j.scheduled_at, '9999-01-01'), '0001-01-03'))
            END AS scheduled_at,
            q.microseconds AS attempted_at
        ),
        spent AS (
          INSERT INTO qj_rates AS r (queue, part, free_at)
          SELECT $1, c.part, q.at + count(*) * q.step
          FROM q
          CROSS JOIN taken AS t
          JOIN pick AS c ON c.id = t.id
          WHERE q.rate_limit IS NOT NULL
          GROUP BY c.part, q.at, q.step
          ON CONFLICT (queue, part) DO UPDATE
          SET free_at = excluded.free_at + greatest(r.free_at - (SELECT at FROM q), interval '0')
          RETURNING r.free_at
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
          ) AS left,
          CASE
            WHEN (SELECT partition_by IS NULL FROM q) THEN false
            WHEN (SELECT count(*) >= $6 FROM near) THEN true
            ELSE EXISTS (
              SELECT
              FROM oban_jobs
              WHERE state = 'available' AND queue = $1
              ORDER BY priority, scheduled_at, id
              OFFSET $9
            )
          END AS crowded,
          EXISTS (SELECT FROM q WHERE global_limit IS NOT NULL) AS full,
          (
            SELECT
              CASE
                WHEN q.partition_by IS NULL
                THEN coalesce(extract(epoch FROM max(r.free_at) - q.at - (q.burst - 1) * q.step)::float8, 0)
                ELSE 0
              END
            FROM q
            LEFT JOIN (
              SELECT free_at FROM spent
              UNION ALL
              SELECT free_at FROM qj_rates WHERE queue = $1 AND part = ''
            ) AS r ON true
            WHERE q.rate_limit IS NOT NULL
            GROUP BY q.partition_by, q.at, q.burst, q.step
          ) AS room_in
        FROM (SELECT) AS one
        LEFT JOIN taken AS t ON true
        """,
        want.queue,
        want.producer,
        want.demand,
        node,
        nonce,
        WINDOW,
        list(want.far),
        SPARE,
        FARTHEST,
    )
    took = time.monotonic() - began
    taken = [list(record)[:-4] for record in records if record["id"] is not None]
    jobs, first = claims.claimed(taken, [want], node, nonce), records[0]
    look = Look(
        took=took,
        held_back=first["left"] and len(jobs) < want.demand,
        full=first["full"],
        room_in=first["room_in"],
        crowded=first["crowded"],
    )
    return jobs, look
