"""What becomes of jobs that wait for others, when those have ended.

Invariant: an edge is closed; or its parent, alive, has `qj_followed` in its meta, so that a trigger will note its end;
or a line of qj_ended says that the parent is to be looked at. Edges come with lines, and so does the loss of a mark; a
line goes when one of the others is true. To mark a parent is an update of its row, which must find it alive: an end
comes after that and finds the mark, or the line stays for another look.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one `settle` did: lines it read, those of them that are `left`, edges it closed, children it decided.

    `mine` is false if another one was at it: then it did nothing. `queues` are to be rung: those of jobs to run now,
    and of available ones that were locked for a moment, for a worker passes over these. `child` is the first that an
    edge was closed for.
    """

    mine: bool
    lines: int
    left: int
    edges: int
    freed: int
    cancelled: int
    queues: Sequence[str]
    child: int | None


async def settle(db: Database, *, lines: int, edges: int, decide: bool = True) -> Settled:
    """Take up to so many lines and open edges, close these, and free or cancel the children that are decided by it.

    How a parent ended is what its row says now; the line only if the row is gone. A parent that was retried meanwhile
    is waited for again; one that is alive is marked, but not by a statement that may free it, for that changes a row
    once. Rows that somebody holds are left for another time, and so are their lines, behind all others. Without
    `decide`, edges are closed and no child is touched.

    Of the open edges of a child no more are read than are closed, and one: to free a callback after 100 000 jobs must
    not take as many looks at all of them.

    Invariant: one at a time. Two at once would each see the edge of the other open, and free nobody. So whoever finds
    that the turn was taken since its snapshot, after waiting for it, does nothing.
    """
    record = await db.fetchrow(
        """
        WITH seen AS MATERIALIZED (
          SELECT turn FROM qj_settling
        ),
        mine AS MATERIALIZED (
          UPDATE qj_settling AS s
          SET turn = s.turn + 1
          FROM seen
          WHERE s.turn = seen.turn
          RETURNING s.turn
        ),
        line AS MATERIALIZED (
          SELECT e.id, e.job_id, e.outcome
          FROM mine
          CROSS JOIN qj_ended AS e
          ORDER BY e.id
          LIMIT $1
        ),
        looked AS MATERIALIZED (
          SELECT DISTINCT ON (l.job_id)
            l.job_id,
            CASE
              WHEN j.state IS NULL THEN coalesce(l.outcome, 'deleted')
              WHEN j.state IN ('completed', 'cancelled', 'discarded') THEN j.state
            END AS outcome,
            j.marked
          FROM line AS l
          LEFT JOIN LATERAL (
            SELECT state::text, meta ? 'qj_followed' OR jsonb_typeof(meta) <> 'object' AS marked
            FROM oban_jobs
            WHERE id = l.job_id
            OFFSET 0
          ) AS j ON true
          ORDER BY l.job_id, l.outcome IS NULL, l.id DESC
        ),
        chosen AS MATERIALIZED (
          SELECT
            e.parent, e.child, n.outcome,
            held.id IS NOT NULL AS waits,
            CASE
              WHEN n.outcome <> 'completed' AND n.outcome <> ALL (e.even_if)
              THEN format('job %s%s, which was %s', e.parent, coalesce(' (' || e.name || ')', ''), n.outcome)
            END AS obstacle
          FROM looked AS n
          CROSS JOIN LATERAL (
            SELECT parent, child, name, even_if
            FROM qj_edges
            WHERE parent = n.job_id AND outcome IS NULL
            OFFSET 0
          ) AS e
          LEFT JOIN LATERAL (SELECT state::text FROM oban_jobs WHERE id = e.child OFFSET 0) AS c ON true
          LEFT JOIN LATERAL (
            SELECT id FROM oban_jobs WHERE id = e.child AND state::text = 'suspended' FOR UPDATE SKIP LOCKED
          ) AS held ON true
          WHERE n.outcome IS NOT NULL AND (held.id IS NOT NULL OR c.state IS DISTINCT FROM 'suspended')
          LIMIT $2
        ),
        alive AS MATERIALIZED (
          SELECT j.id, j.queue, j.available
          FROM looked AS n
          CROSS JOIN LATERAL (
            SELECT id, queue, state::text = 'available' AS available
            FROM oban_jobs
            WHERE id = n.job_id AND state::text NOT IN ('completed', 'cancelled', 'discarded')
            FOR UPDATE SKIP LOCKED
          ) AS j
          WHERE n.outcome IS NULL AND n.marked IS NOT TRUE AND n.job_id NOT IN (SELECT child FROM chosen WHERE waits)
        ),
        marked AS (
          UPDATE oban_jobs AS j
          SET meta = coalesce(j.meta, '{}') || '{"qj_followed": true}'
          FROM alive AS a
          WHERE j.id = a.id
        ),
        closed AS (
          UPDATE qj_edges AS e
          SET outcome = c.outcome
          FROM chosen AS c
          WHERE e.parent = c.parent AND e.child = c.child
        ),
        tally AS MATERIALIZED (
          SELECT child, count(*) AS closed, min(obstacle) AS obstacle
          FROM chosen
          WHERE waits
          GROUP BY child
        ),
        decided AS MATERIALIZED (
          SELECT
            child, obstacle,
            closed = (
              SELECT count(*)
              FROM (
                SELECT FROM qj_edges AS e WHERE e.child = t.child AND e.outcome IS NULL LIMIT t.closed + 1
              ) AS open
            ) AS last
          FROM tally AS t
        ),
        moved AS (
          UPDATE oban_jobs AS j
          SET
            state = (
              CASE
                WHEN d.obstacle IS NOT NULL THEN 'cancelled'
                WHEN j.scheduled_at > timezone('UTC', clock_timestamp()) THEN 'scheduled'
                ELSE 'available'
              END
            )::oban_job_state,
            scheduled_at = CASE
              WHEN d.obstacle IS NULL THEN greatest(j.scheduled_at, timezone('UTC', clock_timestamp()))
              ELSE j.scheduled_at
            END,
            cancelled_at = CASE WHEN d.obstacle IS NOT NULL THEN timezone('UTC', clock_timestamp()) END,
            errors = CASE
              WHEN d.obstacle IS NULL THEN j.errors
              ELSE qj_with_error(j.errors, jsonb_build_object(
                'attempt', j.attempt,
                'at', to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'error', 'Cancelled: it waited for ' || d.obstacle
              ))
            END
          FROM decided AS d
          WHERE j.id = d.child AND j.state::text = 'suspended' AND (d.obstacle IS NOT NULL OR d.last) AND $3
          RETURNING j.state::text AS state, j.queue
        ),
        unfinished AS MATERIALIZED (
          SELECT job_id
          FROM looked
          WHERE outcome IS NULL AND marked IS NOT TRUE AND job_id NOT IN (SELECT id FROM alive)
          UNION ALL
          SELECT n.job_id
          FROM looked AS n
          LEFT JOIN (SELECT parent, count(*) AS closed FROM chosen GROUP BY parent) AS c ON c.parent = n.job_id
          WHERE
            n.outcome IS NOT NULL
            AND coalesce(c.closed, 0) < (
              SELECT count(*)
              FROM (
                SELECT
                FROM qj_edges AS e
                WHERE e.parent = n.job_id AND e.outcome IS NULL
                LIMIT coalesce(c.closed, 0) + 1
              ) AS open
            )
        ),
        put_back AS (
          UPDATE qj_ended AS e
          SET id = DEFAULT
          FROM line AS l
          WHERE e.id = l.id AND l.job_id IN (SELECT job_id FROM unfinished)
          RETURNING e.id
        ),
        taken AS (
          DELETE FROM qj_ended AS e
          USING line AS l
          WHERE e.id = l.id AND l.job_id NOT IN (SELECT job_id FROM unfinished)
        )
        SELECT
          EXISTS (SELECT FROM mine) AS mine,
          (SELECT count(*) FROM line) AS lines,
          (SELECT count(*) FROM put_back) AS left,
          (SELECT count(*) FROM chosen) AS edges,
          count(*) FILTER (WHERE state <> 'cancelled') AS freed,
          count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
          ARRAY(
            SELECT queue FROM moved WHERE state = 'available'
            UNION
            SELECT queue FROM alive WHERE available
          ) AS queues,
          (SELECT min(child) FROM chosen) AS child
        FROM moved
        """,
        lines,
        edges,
        decide,
    )
    assert record is not None
    return Settled(**record)


async def mend(db: Database, *, beyond: int, limit: int) -> tuple[int, int]:
    """Note the ends that no trigger noted, of up to so many parents; the last one looked at, and how many were noted.

    Another program may have made a meta that takes no mark, or emptied a table. 0 for the last one starts anew.
    """
    record = await db.fetchrow(
        """
        WITH turn AS (
          INSERT INTO qj_settling DEFAULT VALUES ON CONFLICT DO NOTHING
        ),
        parent AS MATERIALIZED (
          SELECT DISTINCT id
          FROM (
            SELECT parent AS id
            FROM qj_edges
            WHERE outcome IS NULL AND parent > $1
            ORDER BY parent
            LIMIT $2
          ) AS open
        ),
        noted AS (
          INSERT INTO qj_ended (job_id, outcome)
          SELECT p.id, coalesce(j.state::text, 'deleted')
          FROM parent AS p
          LEFT JOIN oban_jobs AS j ON j.id = p.id
          WHERE
            coalesce(j.state::text, 'deleted') IN ('completed', 'cancelled', 'discarded', 'deleted')
            AND NOT EXISTS (SELECT FROM qj_ended AS e WHERE e.job_id = p.id)
          RETURNING id
        )
        SELECT coalesce((SELECT max(id) FROM parent), 0) AS last, (SELECT count(*) FROM noted) AS noted
        """,
        beyond,
        limit,
    )
    assert record is not None
    return record["last"], record["noted"]
