"""Jobs that wait for each other, as pages show them: neighbours of one job, and workflows a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from quarterjack.database import Database

COUNTED = 10_000
ALL_COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A job that another waits for, or that waits for another.

    `worker` and `state` are None if its row is gone, `outcome` while it is waited for; `even_if` are the ends that the
    other one does not mind.
    """

    id: int
    name: str | None
    outcome: str | None
    even_if: list[str]
    worker: str | None
    state: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How many jobs a job waits or waited for, how many of them still, and how many wait for it; up to COUNTED each."""

    parents: int
    open: int
    children: int


async def parents(db: Database, child: int, *, limit: int) -> list[Neighbour]:
    """List what a job waits for: those that have not ended first."""
    records = await db.fetch(
        """
        SELECT e.parent AS id, e.name, e.outcome, e.even_if, j.worker, j.state::text AS state
        FROM (
          SELECT parent, name, outcome, even_if
          FROM qj_edges
          WHERE child = $1
          ORDER BY outcome DESC NULLS FIRST, parent DESC
          LIMIT $2
        ) AS e
        LEFT JOIN oban_jobs AS j ON j.id = e.parent
        ORDER BY e.outcome IS NOT NULL, e.parent
        """,
        child,
        limit,
    )
    return [Neighbour(**record) for record in records]


async def children(db: Database, parent: int, *, limit: int) -> list[Neighbour]:
    """List what waits or waited for a job, by id."""
    records = await db.fetch(
        """
        SELECT
          e.child AS id, j.meta #>> '{qj_workflow,job}' AS name, e.outcome, e.even_if, j.worker, j.state::text AS state
        FROM (
          SELECT child, outcome, even_if FROM qj_edges WHERE parent = $1 ORDER BY child LIMIT $2
        ) AS e
        LEFT JOIN oban_jobs AS j ON j.id = e.child
        ORDER BY e.child
        """,
        parent,
        limit,
    )
    return [Neighbour(**record) for record in records]


async def count(db: Database, id: int) -> Numbers:
    """Count the neighbours of a job."""
    record = await db.fetchrow(
        """
        SELECT
          (SELECT count(*) FROM (SELECT FROM qj_edges WHERE child = $1 LIMIT $2 + 1) AS e) AS parents,
          (
            SELECT count(*) FROM (SELECT FROM qj_edges WHERE child = $1 AND outcome IS NULL LIMIT $2 + 1) AS e
          ) AS open,
          (SELECT count(*) FROM (SELECT FROM qj_edges WHERE parent = $1 LIMIT $2 + 1) AS e) AS children
        """,
        id,
        COUNTED,
    )
    assert record is not None
    return Numbers(**record)


async def waited_for(db: Database, ids: Sequence[int], *, each: int) -> dict[int, list[Neighbour]]:
    """List what each of some jobs waits for, up to so many: those that have not ended first."""
    records = await db.fetch(
        """
        SELECT c.id AS child, e.parent AS id, e.name, e.outcome, e.even_if
        FROM unnest($1::bigint[]) AS c (id)
        CROSS JOIN LATERAL (
          SELECT parent, name, outcome, even_if
          FROM qj_edges
          WHERE child = c.id
          ORDER BY outcome DESC NULLS FIRST, parent DESC
          LIMIT $2
        ) AS e
        ORDER BY e.outcome IS NOT NULL, e.parent
        """,
        list(ids),
        each,
    )
    found: dict[int, list[Neighbour]] = {}
    for record in records:
        values = dict(record)
        child = values.pop("child")
        found.setdefault(child, []).append(Neighbour(**values, worker=None, state=None))
    return found


async def members(
    db: Database, workflow: str, *, edge: tuple[int, int] | None, limit: int
) -> list[tuple[int, int]]:
    """Find a page of a workflow's jobs after the (depth, id) of `edge`: what runs first comes first."""
    depth, id = edge or (-1, 0)
    records = await db.fetch(
        """
        SELECT depth, id
        FROM (
          SELECT
            id,
            CASE jsonb_typeof(meta #> '{qj_workflow,depth}')
              WHEN 'number' THEN least(greatest((meta #>> '{qj_workflow,depth}')::numeric, 0), 1e6)::integer
              ELSE 0
            END AS depth
          FROM oban_jobs
          WHERE meta @> jsonb_build_object('qj_workflow', jsonb_build_object('id', $1::text))
        ) AS j
        WHERE (depth, id) > ($2::integer, $3::bigint)
        ORDER BY depth, id
        LIMIT $4
        """,
        workflow,
        depth,
        id,
        limit,
    )
    return [(record["depth"], record["id"]) for record in records]


async def count_members(db: Database, workflow: str) -> dict[str, int]:
    """Count a workflow's jobs by state, up to ALL_COUNTED of them in all."""
    records = await db.fetch(
        """
        SELECT state, count(*) AS number
        FROM (
          SELECT state::text
          FROM oban_jobs
          WHERE meta @> jsonb_build_object('qj_workflow', jsonb_build_object('id', $1::text))
          LIMIT $2
        ) AS j
        GROUP BY state
        """,
        workflow,
        ALL_COUNTED,
    )
    return {record["state"]: record["number"] for record in records}
