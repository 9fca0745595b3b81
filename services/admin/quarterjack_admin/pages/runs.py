"""Jobs by state, a page at a time, to the end of history."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.model import Job, JobState
from quarterjack.queries import catalogue, flow_lists, job_lists, runs, shown
from quarterjack.queries.flow_lists import Neighbour
from quarterjack.redaction import redact, scrub
from quarterjack_admin.guard import seal
from quarterjack_admin.keys import reading, session_of
from quarterjack_admin.paging import Page, read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page

PAGE = 50
WINDOW = 100_000
NAMED = 3
DONE = re.compile("(cancel|retry|delete) ([0-9]{1,5})")
DUE = (JobState.SCHEDULED, JobState.RETRYABLE)
ORDER = (
    JobState.EXECUTING,
    JobState.AVAILABLE,
    JobState.SCHEDULED,
    JobState.RETRYABLE,
    JobState.SUSPENDED,
    JobState.COMPLETED,
    JobState.CANCELLED,
    JobState.DISCARDED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What the address asks for; the address is the state of the page."""

    state: JobState | None
    worker: str | None
    queue: str | None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filter":
        state = query.get("state", "")
        return cls(
            state=JobState(state) if state in tuple(JobState) else None,
            worker=query.get("worker", "").strip()[:127] or None,
            queue=query.get("queue", "").strip()[:127] or None,
        )

    @property
    def windowed(self) -> bool:
        """Say whether no index leads to what is asked for, so that a page looks at WINDOW jobs only."""
        return self.worker is not None or (self.queue is not None and self.state is None)

    @property
    def timed(self) -> bool:
        """Say whether the order is by time, not by id."""
        return not self.windowed and (self.state in DUE or self.state is JobState.EXECUTING)

    @property
    def oldest_first(self) -> bool:
        return self.state is JobState.AVAILABLE

    def address(self, path: str = "/jobs", **others: object) -> str:
        """Give the address with some parts changed."""
        values = {"state": self.state, "worker": self.worker, "queue": self.queue, **others}
        query = urlencode({name: str(value) for name, value in values.items() if value})
        return f"{path}?{query}" if query else path


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The row at the edge of a page: its id, and its time where the order is by time."""

    id: int
    at: datetime | None = None

    @classmethod
    def read(cls, text: str | None) -> "Edge | None":
        moment, _, number = (text or "").rpartition("~")
        id = read_number(number)
        if id is None:
            return None
        try:
            at = datetime.fromisoformat(moment) if moment else None
        except ValueError:
            return None
        return cls(id=id, at=at if at is None or at.tzinfo else None)

    @classmethod
    def of(cls, job: Job, wanted: Filter) -> "Edge":
        if not wanted.timed:
            return cls(id=job.id)
        executing = wanted.state is JobState.EXECUTING
        return cls(id=job.id, at=job.attempted_at if executing else job.scheduled_at)

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.id}" if self.at else str(self.id)


@requires("view")
async def show(request: web.Request) -> web.Response:
    """List jobs; what waits is shown oldest first, what ended newest first."""
    wanted = Filter.of(request.query)
    after, before = Edge.read(request.query.get("after")), Edge.read(request.query.get("before"))
    async with reading(request) as db:
        shell = await look_around(db)
        newest = await job_lists.newest(db) if wanted.windowed else 0
        counts = await _count(db, wanted, newest)
        if before is not None:
            found, last = await _find(db, wanted, before, newest, back=True)
            listed = Page.backwards(found, PAGE)
        else:
            found, last = await _find(db, wanted, after, newest, back=False)
            listed = Page.forwards(found, PAGE, first=after is None)
        jobs = await shown.read(db, listed.ids)
        hidden = await catalogue.redacted(db, {job.worker for job in jobs})
        waits = await flow_lists.waited_for(
            db, [job.id for job in jobs if job.state is JobState.SUSPENDED], each=NAMED + 1
        )
    back = Edge.of(jobs[0], wanted) if jobs and listed.newer else None
    on = Edge.of(jobs[-1], wanted) if jobs and listed.older else None
    further = last if before is None and on is None else None
    return page(
        request,
        "runs.html",
        shell=shell,
        wanted=wanted,
        states=ORDER,
        counts=counts,
        counted=runs.COUNTED,
        window=WINDOW if wanted.windowed and newest > WINDOW else None,
        rows=[_row(job, waits.get(job.id, ()), hidden.get(job.worker, ())) for job in jobs],
        done=_read_done(request),
        back=back and wanted.address(before=back),
        on=on and wanted.address(after=on),
        further=further and wanted.address(after=further),
    )


def write_done(request: web.Request, done: str) -> str:
    """Write what was done for an address of this session; in any other it says nothing."""
    return f"{done} {seal(session_of(request), done)}"


def _read_done(request: web.Request) -> re.Match[str] | None:
    told = request.query.get("done", "")
    done = told.rpartition(" ")[0]
    return DONE.fullmatch(done) if told == write_done(request, done) else None


async def _count(db: Connection, wanted: Filter, newest: int) -> Mapping[str, int]:
    if not wanted.windowed:
        return await runs.counts(db, queue=wanted.queue)
    bound = max(0, newest - WINDOW)
    return await runs.counts_above(db, worker=wanted.worker, queue=wanted.queue, bound=bound)


async def _find(
    db: Connection, wanted: Filter, edge: Edge | None, newest: int, *, back: bool
) -> tuple[Sequence[int], Edge | None]:
    """Find a page of ids, one more than it holds; and where to search on, if the window ended the search."""
    if wanted.timed:
        at = (edge.at, edge.id) if edge and edge.at else None
        return await _find_timed(db, wanted, at, back=back), None
    upwards = wanted.oldest_first is not back
    id = edge.id if edge else None
    bound = None
    if wanted.windowed:
        start = id if id is not None else (0 if upwards else newest + 1)
        bound = start + WINDOW if upwards else start - WINDOW
    search = job_lists.by_id_back if upwards else job_lists.by_id
    found = await search(
        db,
        state=wanted.state,
        worker=wanted.worker,
        queue=wanted.queue,
        edge=id,
        bound=bound,
        limit=PAGE + 1,
    )
    if bound is None or not 0 < bound < newest:
        return found, None
    return found, Edge(id=bound - 1 if upwards else bound + 1)


async def _find_timed(
    db: Connection, wanted: Filter, at: tuple[datetime, int] | None, *, back: bool
) -> Sequence[int]:
    queue, limit = wanted.queue, PAGE + 1
    if wanted.state is JobState.EXECUTING:
        if back and at:
            return await job_lists.executing_back(db, queue=queue, edge=at, limit=limit)
        return await job_lists.executing(db, queue=queue, edge=at, limit=limit)
    assert wanted.state is not None
    if back and at:
        return await job_lists.by_due_back(
            db, state=wanted.state, queue=queue, edge=at, limit=limit
        )
    return await job_lists.by_due(db, state=wanted.state, queue=queue, edge=at, limit=limit)


def _row(job: Job, waits: Sequence[Neighbour], hidden: Sequence[str]) -> dict[str, object]:
    error = str(job.errors[-1].get("error", "")) if job.errors else ""
    return {
        "job": job,
        "when": when(job),
        "args": redact(job.args, hidden) if job.args else None,
        "error": scrub(error.partition("\n")[0])[:200],
        "ended_at": ended_at(job),
        "waits": [each for each in waits if each.outcome is None],
    }


def when(job: Job) -> datetime:
    """Give the time that matters in the job's state."""
    if job.state in (JobState.AVAILABLE, JobState.SUSPENDED, *DUE):
        return job.scheduled_at
    return ended_at(job) or job.attempted_at or job.scheduled_at


def ended_at(job: Job) -> datetime | None:
    """Give the end of a job that has ended."""
    ends = {
        JobState.COMPLETED: job.completed_at,
        JobState.CANCELLED: job.cancelled_at,
        JobState.DISCARDED: job.discarded_at,
    }
    return ends.get(job.state)


ROUTES = [web.get("/jobs", show)]
