"""Jobs that wait for others: their edges, and looks at what they wait for. `settling` does the rest.

Nothing is locked here, in whatever transaction that may be: a worker that ends a job waits for nobody who follows it.
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


async def outcomes(db: Database, ids: Collection[int]) -> dict[int, str | None]:
    """Say of each of these jobs that exists how it has ended; None if it has not."""
    records = await db.fetch(
        """
        SELECT
          id, CASE WHEN state IN ('completed', 'cancelled', 'discarded') THEN state::text END AS outcome
        FROM oban_jobs
        WHERE id = ANY ($1::bigint[])
        """,
        list(ids),
    )
    return {record["id"]: record["outcome"] for record in records}


async def link(db: Database, edges: Sequence[Edge], looks: Mapping[int, str | None]) -> None:
    """Insert edges, and have the leader look at jobs that they begin with; at how they ended where that is known.

    Parents that are inserted in this transaction, with `qj_followed` in their meta, need no look.
    """
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
        list(looks),
        list(looks.values()),
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
