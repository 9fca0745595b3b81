"""Jobs by state, a page at a time, to the end of history."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.model import Job, JobState
from quarterjack.queries import job_lists, runs
from quarterjack_admin.keys import reading
from quarterjack_admin.paging import Page, read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.redaction import redact, scrub
from quarterjack_admin.render import look_around, page

PAGE = 50
WAITING = (JobState.AVAILABLE, JobState.SCHEDULED, JobState.RETRYABLE)
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
    def read(cls, request: web.Request) -> "Filter":
        query = request.query
        state = query.get("state", "")
        return cls(
            state=JobState(state) if state in tuple(JobState) else None,
            worker=query.get("worker", "").strip()[:127] or None,
            queue=query.get("queue", "").strip()[:127] or None,
        )

    def address(self, **others: object) -> str:
        """Give the address with some parts changed."""
        values = {"state": self.state, "worker": self.worker, "queue": self.queue, **others}
        query = urlencode({name: str(value) for name, value in values.items() if value})
        return f"/jobs?{query}" if query else "/jobs"


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
        if wanted.state in WAITING:
            return cls(id=job.id, at=job.scheduled_at)
        if wanted.state is JobState.EXECUTING:
            return cls(id=job.id, at=job.attempted_at)
        return cls(id=job.id)

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.id}" if self.at else str(self.id)


@requires("view")
async def show(request: web.Request) -> web.Response:
    """List jobs; what waits is shown oldest first, what ended newest first."""
    wanted = Filter.read(request)
    after, before = Edge.read(request.query.get("after")), Edge.read(request.query.get("before"))
    async with reading(request) as db:
        shell = await look_around(db)
        counts = await runs.counts(db, worker=wanted.worker, queue=wanted.queue, schedule=None)
        if before is not None:
            listed = Page.backwards(await _back(db, wanted, before), PAGE)
        else:
            found = await _on(db, wanted, after)
            listed = Page.forwards(found, PAGE, first=after is None)
        jobs = await runs.read(db, listed.ids)
    return page(
        request,
        "runs.html",
        shell=shell,
        wanted=wanted,
        states=ORDER,
        counts=counts,
        counted=runs.COUNTED,
        total=sum(counts.values()),
        rows=[_row(job) for job in jobs],
        back=wanted.address(before=Edge.of(jobs[0], wanted)) if jobs and listed.newer else None,
        on=wanted.address(after=Edge.of(jobs[-1], wanted)) if jobs and listed.older else None,
    )


async def _on(db: Connection, wanted: Filter, edge: Edge | None) -> Sequence[int]:
    worker, queue, limit = wanted.worker, wanted.queue, PAGE + 1
    timed = (edge.at, edge.id) if edge and edge.at else None
    if wanted.state in WAITING:
        return await job_lists.by_due(
            db, state=wanted.state, worker=worker, queue=queue, edge=timed, limit=limit
        )
    if wanted.state is JobState.EXECUTING:
        return await job_lists.executing(db, worker=worker, queue=queue, edge=timed, limit=limit)
    return await job_lists.by_id(
        db,
        state=wanted.state,
        worker=worker,
        queue=queue,
        edge=edge.id if edge else None,
        limit=limit,
    )


async def _back(db: Connection, wanted: Filter, edge: Edge) -> Sequence[int]:
    worker, queue, limit = wanted.worker, wanted.queue, PAGE + 1
    if wanted.state in WAITING and edge.at:
        return await job_lists.by_due_back(
            db,
            state=wanted.state,
            worker=worker,
            queue=queue,
            edge=(edge.at, edge.id),
            limit=limit,
        )
    if wanted.state is JobState.EXECUTING and edge.at:
        return await job_lists.executing_back(
            db, worker=worker, queue=queue, edge=(edge.at, edge.id), limit=limit
        )
    return await job_lists.by_id_back(
        db, state=wanted.state, worker=worker, queue=queue, edge=edge.id, limit=limit
    )


def _row(job: Job) -> dict[str, object]:
    error = str(job.errors[-1].get("error", "")) if job.errors else ""
    return {
        "job": job,
        "when": when(job),
        "args": redact(job.args) if job.args else None,
        "error": scrub(error.partition("\n")[0][:200]),
        "ended_at": ended_at(job),
    }


def when(job: Job) -> datetime:
    """Give the time that matters in the job's state."""
    if job.state in WAITING or job.state is JobState.SUSPENDED:
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
