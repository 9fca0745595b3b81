"""A workflow or batch: its jobs by how many others come before them, and what each waits for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.model import Job, JobState
from quarterjack.queries import flow_lists, shown
from quarterjack_admin.keys import reading
from quarterjack_admin.pages.runs import ORDER, ended_at, when
from quarterjack_admin.paging import read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page

ID = re.compile("[0-9a-f]{32}")
PAGE = 100
NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a job's meta says of the workflow that it is in; `job` is what it is called there."""

    id: str
    name: str
    job: str | None

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Part | None":
        """Read it; None if there is none, or another program's."""
        said = meta.get("qj_workflow")
        if not isinstance(said, dict):
            return None
        id, name, job = said.get("id"), said.get("name"), said.get("job")
        if not isinstance(id, str) or not ID.fullmatch(id) or not isinstance(name, str):
            return None
        return cls(id=id, name=name, job=job if isinstance(job, str) else None)


@requires("view")
async def show(request: web.Request) -> web.Response:
    """Show a workflow."""
    id = request.match_info["id"]
    edge = _edge(request.query.get("after"))
    async with reading(request) as db:
        shell = await look_around(db)
        counts = await flow_lists.count_members(db, id)
        if not counts:
            raise web.HTTPNotFound(
                reason="Gone",
                text="There is no such workflow. It never was, or its jobs were pruned after their end.",
            )
        found = await flow_lists.members(db, id, edge=edge, limit=PAGE + 1)
        rows = await _rows(db, found[:PAGE])
    first = next((part for row in rows if (part := row["part"])), None)
    last = found[PAGE - 1] if len(found) > PAGE else None
    return page(
        request,
        "workflow.html",
        shell=shell,
        name=first.name if first else id,
        counts={state: counts[state] for state in ORDER if state in counts},
        total=sum(counts.values()),
        counted=flow_lists.ALL_COUNTED,
        steps=[(depth, list(of)) for depth, of in groupby(rows, key=lambda row: row["depth"])],
        start=f"/workflows/{id}" if edge else None,
        on=f"/workflows/{id}?after={last[0]}~{last[1]}" if last else None,
    )


async def _rows(db: Connection, found: list[tuple[int, int]]) -> list[dict[str, Any]]:
    depths = {id: depth for depth, id in found}
    jobs = {job.id: job for job in await shown.read(db, list(depths))}
    waits = await flow_lists.waited_for(db, list(depths), each=NAMED + 1)
    return [
        {
            "job": job,
            "depth": depths[id],
            "part": Part.of(job.meta),
            "waits": waits.get(id, [])[:NAMED],
            "more": len(waits.get(id, ())) > NAMED,
            "when": when(job),
            "took": _took(job),
        }
        for id in depths
        if (job := jobs.get(id))
    ]


def _took(job: Job) -> Any:
    end = ended_at(job)
    ran = job.state is not JobState.CANCELLED or job.attempt > 0
    return end - job.attempted_at if end and job.attempted_at and ran else None


def _edge(text: str | None) -> tuple[int, int] | None:
    depth, _, id = (text or "").partition("~")
    place = read_number(depth), read_number(id)
    if place[0] is None or place[1] is None or place[0] > 1_000_000:
        return None
    return place[0], place[1]


ROUTES = [web.get("/workflows/{id:[0-9a-f]{32}}", show)]
