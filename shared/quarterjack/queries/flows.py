"""Jobs that wait for others: `follow` and `link` when they are inserted; `settling` does the rest.

Invariant: a line of qj_ended finds all edges that its end concerns. `follow` locks the parents until their edges
commit, so an end either comes after that, or is seen by `follow`, whose caller then adds the line itself.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The job `child` waits for the job `parent`, which may end in `even_if` as well as complete."""

    parent: int
    child: int
    name: str | None = None
    even_if: Collection[str] = ()


async def lock(db: Database, ids: Collection[int]) -> None:
    """Lock jobs until the transaction ends, by their ids, before it touches them in another order."""
    await db.execute(
        "SELECT FROM oban_jobs WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE", list(ids)
    )


async def follow(db: Database, ids: Collection[int]) -> dict[int, str | None]:
    """Lock jobs, by id, and mark them as followed; of each that exists how it has ended, None if it has not.

    The lock lasts until the transaction ends. A worker passes over what is locked, so the queues are rung after it.
    """
    records = await db.fetch(
        """
        WITH held AS MATERIALIZED (
          SELECT id, queue, state::text AS state, meta
          FROM oban_jobs
          WHERE id = ANY ($1::bigint[])
          ORDER BY id
          FOR UPDATE
        ),
        marked AS (
          UPDATE oban_jobs AS j
          SET meta = coalesce(j.meta, '{}') || '{"qj_followed": true}'
          FROM held AS h
          WHERE
            j.id = h.id
            AND h.state NOT IN ('completed', 'cancelled', 'discarded')
            AND jsonb_typeof(coalesce(h.meta, '{}')) = 'object'
            AND NOT coalesce(h.meta, '{}') ? 'qj_followed'
        ),
        rung AS MATERIALIZED (
          SELECT pg_notify(current_schema() || '.oban_insert', json_build_object('queue', queue)::text)
          FROM held
          WHERE state = 'available' AND pg_notification_queue_usage() < 0.9
          GROUP BY queue
        )
        SELECT
          id, CASE WHEN state IN ('completed', 'cancelled', 'discarded') THEN state END AS outcome,
          (SELECT count(*) FROM rung) AS rung
        FROM held
        """,
        list(ids),
    )
    return {record["id"]: record["outcome"] for record in records}


async def link(db: Database, edges: Sequence[Edge], ended: Mapping[int, str]) -> None:
    """Insert edges whose parents this transaction has inserted or follows; `ended` says how some parents have ended."""
    await db.execute(
        """
        WITH edge AS (
          INSERT INTO qj_edges (parent, child, name, even_if)
          SELECT parent, child, name, string_to_array(even_if, ' ')
          FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS e (parent, child, name, even_if)
        )
        INSERT INTO qj_ended (job_id, outcome)
        SELECT id, outcome FROM unnest($5::bigint[], $6::text[]) AS e (id, outcome)
        """,
        [edge.parent for edge in edges],
        [edge.child for edge in edges],
        [edge.name for edge in edges],
        [" ".join(edge.even_if) for edge in edges],
        list(ended),
        list(ended.values()),
    )


async def parents_of(db: Database, child: int, *, beyond: int, limit: int) -> list[dict[str, Any]]:
    """Give what a job waited for, by the ids of the parents: id, name, outcome, result."""
    records = await db.fetch(
        """
        SELECT e.parent AS id, e.name, e.outcome, j.meta -> 'result' AS result
        FROM (
          SELECT parent, name, outcome
          FROM qj_edges
          WHERE child = $1 AND parent > $2
          ORDER BY parent
          LIMIT $3
        ) AS e
        LEFT JOIN oban_jobs AS j ON j.id = e.parent
        ORDER BY e.parent
        """,
        child,
        beyond,
        limit,
    )
    return [dict(record) for record in records]


async def prune(db: Database, *, beyond: int, limit: int) -> tuple[int, int]:
    """Delete edges of children that are gone, among up to so many; where to go on, and how many were deleted.

    0 for where to go on starts anew.
    """
    record = await db.fetchrow(
        """
        WITH chunk AS MATERIALIZED (
          SELECT parent, child
          FROM qj_edges
          WHERE child > $1
          ORDER BY child
          LIMIT $2
        ),
        gone AS MATERIALIZED (
          SELECT e.parent, e.child
          FROM chunk AS c
          JOIN qj_edges AS e ON e.parent = c.parent AND e.child = c.child
          WHERE NOT EXISTS (SELECT FROM oban_jobs AS j WHERE j.id = c.child)
          FOR UPDATE OF e SKIP LOCKED
        ),
        deleted AS (
          DELETE FROM qj_edges AS e
          USING gone AS g
          WHERE e.parent = g.parent AND e.child = g.child
        )
        SELECT
          coalesce((SELECT max(child) FROM chunk WHERE child NOT IN (SELECT child FROM gone)), 0) AS alive,
          (SELECT count(*) FROM chunk) AS looked,
          (SELECT count(*) FROM gone) AS deleted
        """,
        beyond,
        limit,
    )
    assert record is not None
    last = 0 if record["looked"] < limit else max(beyond, record["alive"])
    return last, record["deleted"]
