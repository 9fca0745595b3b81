"""One job: its way through the states, its attempts and errors, its arguments."""

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.model import INCOMPLETE, Job, JobState
from quarterjack.queries import cluster, flow_lists, jobs, journals, schedules, shown
from quarterjack.queries.journals import Journal
from quarterjack.queries.shown import Shown
from quarterjack.redaction import redact, scrub
from quarterjack_admin import standing
from quarterjack_admin.keys import reading
from quarterjack_admin.pages.runs import ended_at
from quarterjack_admin.pages.workflow import Part
from quarterjack_admin.paging import read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page
from quarterjack_admin.words import pretty

FRESH = timedelta(minutes=1)
JOURNALS = 5
TAGS = 100
NO_JOB = "There is no such job. It never was, or it was pruned after its end."
SHOWN = 20
RETRIABLE = (
    JobState.SCHEDULED,
    JobState.RETRYABLE,
    JobState.SUSPENDED,
    JobState.COMPLETED,
    JobState.CANCELLED,
    JobState.DISCARDED,
)


async def find_job(request: web.Request, db: Connection) -> Shown:
    """Read the job of the address, or answer that there is none."""
    id = read_number(request.match_info["id"])
    found = await shown.find(db, id) if id is not None else None
    if found is None:
        raise web.HTTPNotFound(reason="Gone", text=NO_JOB)
    return found


@requires("view")
async def show(request: web.Request) -> web.Response:
    """Show a job."""
    async with reading(request) as db:
        shell = await look_around(db)
        found = await find_job(request, db)
        job = found.job
        job_type = await schedules.job_type(db, job.worker)
        told = await journals.of_job(db, job.id, since=job.inserted_at, limit=JOURNALS)
        producer = await cluster.producer_of(db, job.attempted_by) if job.attempted_by else None
        numbers = await flow_lists.count(db, job.id)
        parents = await flow_lists.parents(db, job.id, limit=SHOWN)
        children = await flow_lists.children(db, job.id, limit=SHOWN)
    paths = job_type.redacted if job_type else ()
    return page(
        request,
        "job.html",
        shell=shell,
        job=job,
        found=found,
        largest=shown.LARGEST,
        tags=job.tags[:TAGS],
        job_type=job_type,
        steps=_steps(job),
        ended_at=ended_at(job),
        attempts=[_attempt(error) for error in reversed(job.errors)],
        progress=_progress(job, told),
        logs=[_log(journal) for journal in told if journal.lines],
        result=redact(job.result, paths),
        **_without_secrets(job, paths),
        warning=job.meta.get("warning"),
        producer=producer,
        workflow=Part.of(job.meta),
        numbers=numbers,
        counted=flow_lists.COUNTED,
        parents=parents,
        children=children,
        schedule_name=_text(job.meta.get("cron_name")),
        trigger=standing.trigger(job),
        retriable=job.state in RETRIABLE,
        cancellable=job.state in INCOMPLETE,
        fresh="from" in request.query and shell.now - job.inserted_at < FRESH,
    )


@requires("view")
async def download(request: web.Request) -> web.Response:
    """Give the whole of a job as JSON, without secrets."""
    id = read_number(request.match_info["id"])
    async with reading(request) as db:
        job = await jobs.find(db, id) if id is not None else None
        job_type = await schedules.job_type(db, job.worker) if job else None
    if job is None:
        raise web.HTTPNotFound(reason="Gone", text=NO_JOB)
    return web.Response(
        body=await asyncio.to_thread(_whole, job, job_type.redacted if job_type else ()),
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="job-{job.id}.json"'},
    )


def _without_secrets(job: Job, paths: Sequence[str]) -> dict[str, Any]:
    """Give args and meta to be shown; the result, which is in the meta, hides what args do."""
    return {
        "args": redact(job.args, paths),
        "meta": redact(job.meta, [f"result.{path}" for path in paths]),
    }


def _whole(job: Job, paths: Sequence[str]) -> bytes:
    whole = {
        **{field.name: getattr(job, field.name) for field in fields(job)},
        **_without_secrets(job, paths),
        "errors": [
            {
                key: scrub(each) if isinstance(each, str) else redact(each)
                for key, each in error.items()
            }
            for error in job.errors
        ],
    }
    return pretty(whole).encode(errors="replace")


def _steps(job: Job) -> list[dict[str, object]]:
    """Give the states it went through, each with its time."""
    steps: list[dict[str, object]] = [{"state": "inserted", "at": job.inserted_at}]
    if job.scheduled_at != job.inserted_at:
        steps.append({"state": "due", "at": job.scheduled_at})
    if job.attempted_at is not None:
        steps.append({"state": "started", "at": job.attempted_at})
        asked_at = _instant(job.meta.get("cancel_attempted_at"))
        if job.state == JobState.EXECUTING and asked_at and asked_at > job.attempted_at:
            steps.append({"state": "asked to stop", "at": asked_at})
    if end := ended_at(job):
        steps.append({"state": job.state.value, "at": end})
    return steps


def _attempt(error: dict[str, Any]) -> dict[str, object]:
    text = scrub(str(error.get("error", "")))
    first, _, rest = text.partition("\n")
    return {
        "attempt": error.get("attempt", "–"),
        "at": _instant(error.get("at")),
        "first": first,
        "rest": rest.strip("\n"),
        "lines": len(rest.strip("\n").splitlines()),
    }


def _progress(job: Job, told: list[Journal]) -> dict[str, object] | None:
    """Give how far the attempt is that runs now."""
    for journal in told:
        if job.state == JobState.EXECUTING and journal.attempted_at == job.attempted_at:
            message = scrub(journal.message) if journal.message else None
            if journal.percent is not None:
                return {"percent": round(journal.percent, 1), "message": message}
    return None


def _log(journal: Journal) -> dict[str, object]:
    return {
        "id": int(journal.attempted_at.timestamp() * 1e6),
        "attempt": journal.attempt,
        "left_out": journal.left_out,
        "lines": [_line(each) for each in journal.lines if isinstance(each, dict)],
    }


def _line(line: dict[str, Any]) -> str:
    """Write a line as a worker's log has it; seconds of the day, in UTC, are enough to follow one attempt."""
    at = str(line.get("at"))[11:23]
    return f"{at} {str(line.get('level')).upper():7} {scrub(str(line.get('text')))}"


def _instant(text: object) -> datetime | None:
    """Read when an attempt failed, as Oban writes it; None for what is no instant."""
    try:
        at = datetime.fromisoformat(str(text))
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


ROUTES = [web.get(r"/jobs/{id:\d+}", show), web.get(r"/jobs/{id:\d+}/download", download)]
