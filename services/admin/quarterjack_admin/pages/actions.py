"""Run a schedule now, pause it, resume it: each asks first, acts once, and is recorded."""

import secrets
from datetime import datetime, timedelta

from aiohttp import web

import quarterjack
from quarterjack.database import Connection
from quarterjack.model import Enqueued, JobType, Schedule
from quarterjack.queries import access, runs, schedules
from quarterjack.unique import Unique
from quarterjack_admin.keys import TRACEPARENT, reading, session_of, writing
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.permissions import may, requires
from quarterjack_admin.redaction import redact
from quarterjack_admin.render import look_around, page, schedule_path

LONGEST_REASON = 500
LONGEST_PAUSE = timedelta(days=3650)


@requires("jobs.run")
async def ask_run(request: web.Request) -> web.Response:
    """Say what Run now would do."""
    async with reading(request) as db:
        shell = await look_around(db)
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
        latest = (await runs.latest(db, [schedule.name], each=5))[schedule.name]
    running = [run for run in latest if run.ended_at is None]
    return page(
        request,
        "run.html",
        shell=shell,
        schedule=schedule,
        args=redact(schedule.args, job_type.redacted if job_type else ()),
        known=job_type is not None,
        running=running,
        unique=_unique(schedule, job_type) is not None,
        request_id=secrets.token_hex(16),
    )


@requires("jobs.run")
async def run(request: web.Request) -> web.Response:
    """Enqueue one job; the same request sent twice makes one."""
    given, session = await request.post(), session_of(request)
    request_id = str(given.get("request_id", ""))[:64]
    force = given.get("force") == "yes" and may(session.role, "jobs.run.force")
    async with writing(request) as db:
        await runs.take_turn(db, request_id)
        schedule = await find_schedule(request, db)
        earlier = await runs.of_request(db, request_id) if request_id else None
        if earlier is not None:
            raise web.HTTPSeeOther(f"/jobs/{earlier}")
        job_type = await schedules.job_type(db, schedule.worker)
        unique = None if force else _unique(schedule, job_type)
        meta = _meta(schedule, session.name, request_id, request.get(TRACEPARENT))
        made = await _enqueue(db, schedule, unique, meta)
        await access.record(
            db,
            actor=session.name,
            action="run now",
            address=request.remote or "",
            target=schedule.name,
            after={"job": made.id, "forced": force},
            result="conflict" if made.conflict else "ok",
        )
    if made.conflict:
        return page(request, "refused.html", status=409, schedule=schedule, id=made.id)
    raise web.HTTPSeeOther(f"/jobs/{made.id}?from=run")


@requires("schedules.pause")
async def ask_pause(request: web.Request) -> web.Response:
    """Ask for the reason and the end of a pause."""
    return await _ask_pause(request)


@requires("schedules.pause")
async def pause(request: web.Request) -> web.Response:
    """Pause: no tick is enqueued until it is resumed."""
    given, session = await request.post(), session_of(request)
    reason = str(given.get("reason", "")).strip()[:LONGEST_REASON]
    hours, problem = _read_hours(str(given.get("hours", "")))
    if not reason:
        problem = "Say why: others will want to know."
    if problem:
        return await _ask_pause(request, problem=problem, reason=reason)
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        until: datetime | None = await schedules.now(db) + hours if hours else None
        await schedules.give_reason(db, reason)
        paused = await schedules.pause(db, schedule.id, by=session.name, reason=reason, until=until)
        await _record(db, request, "pause schedule", schedule, reason, done=paused is not None)
    raise web.HTTPSeeOther(schedule_path(schedule.name))


@requires("schedules.pause")
async def resume(request: web.Request) -> web.Response:
    """Resume from now on; what was missed is not caught up."""
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        resumed = await schedules.resume(db, schedule.id, by=session_of(request).name)
        await _record(db, request, "resume schedule", schedule, None, done=resumed is not None)
    raise web.HTTPSeeOther(schedule_path(schedule.name))


async def _ask_pause(
    request: web.Request, *, problem: str | None = None, reason: str = ""
) -> web.Response:
    async with reading(request) as db:
        shell = await look_around(db)
        schedule = await find_schedule(request, db)
    return page(
        request,
        "pause.html",
        status=422 if problem else 200,
        shell=shell,
        schedule=schedule,
        problem=problem,
        reason=reason,
    )


async def _enqueue(
    db: Connection, schedule: Schedule, unique: Unique | None, meta: dict[str, object]
) -> Enqueued:
    return await quarterjack.enqueue(
        db,
        schedule.worker,
        schedule.args,
        queue=schedule.queue,
        priority=schedule.priority,
        max_attempts=schedule.max_attempts,
        tags=schedule.tags,
        meta=meta,
        unique=unique,
    )


def _meta(
    schedule: Schedule, by: str, request_id: str, traceparent: str | None
) -> dict[str, object]:
    meta: dict[str, object] = {
        "cron_name": schedule.name,
        "cron_expr": schedule.cron,
        "cron_tz": schedule.timezone,
        "schedule_id": schedule.id,
        "schedule_version": schedule.version,
        "trigger": "manual",
        "triggered_by": by,
        "request_id": request_id,
    }
    return meta | {"traceparent": traceparent} if traceparent else meta


def _unique(schedule: Schedule, job_type: JobType | None) -> Unique | None:
    """Give the uniqueness that the schedule's ticks have: its own, or its job type's."""
    stored = schedule.uniqueness or (job_type.uniqueness if job_type else None)
    return Unique.from_json(stored) if stored else None


def _read_hours(text: str) -> tuple[timedelta | None, str | None]:
    if not text.strip():
        return None, None
    try:
        hours = timedelta(hours=float(text))
    except (ValueError, OverflowError):
        return None, f"{text[:20]!r} is not a number of hours."
    if not timedelta(0) < hours <= LONGEST_PAUSE:
        return None, "Give a number of hours above 0, or none to pause until someone resumes it."
    return hours, None


async def _record(
    db: Connection,
    request: web.Request,
    action: str,
    schedule: Schedule,
    reason: str | None,
    *,
    done: bool,
) -> None:
    await access.record(
        db,
        actor=session_of(request).name,
        action=action,
        address=request.remote or "",
        target=schedule.name,
        reason=reason,
        result="ok" if done else "conflict",
    )


ROUTES = [
    web.get("/schedules/{name}/run", ask_run),
    web.post("/schedules/{name}/run", run),
    web.get("/schedules/{name}/pause", ask_pause),
    web.post("/schedules/{name}/pause", pause),
    web.post("/schedules/{name}/resume", resume),
]
