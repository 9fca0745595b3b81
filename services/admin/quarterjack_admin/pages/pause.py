"""Pause a schedule and resume it: each is asked for, done once, and recorded."""

from datetime import datetime, timedelta

from aiohttp import web

from quarterjack.queries import clock, holds, schedules
from quarterjack_admin import audit
from quarterjack_admin.forms import read_reason
from quarterjack_admin.keys import reading, session_of, writing
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page, schedule_path

LONGEST_PAUSE = timedelta(days=3650)


@requires("schedules.pause")
async def ask_pause(request: web.Request) -> web.Response:
    """Ask for the reason and the end of a pause."""
    return await _ask_pause(request)


@requires("schedules.pause")
async def pause(request: web.Request) -> web.Response:
    """Pause: no tick is enqueued until it is resumed."""
    given, session = await request.post(), session_of(request)
    reason = read_reason(given)
    hours, problem = _read_hours(str(given.get("hours", "")))
    if not reason:
        problem = "Say why: others will want to know."
    if problem:
        return await _ask_pause(request, problem=problem, reason=reason)
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        until: datetime | None = await clock.now(db) + hours if hours else None
        await schedules.give_reason(db, reason)
        paused = await holds.pause(db, schedule.id, by=session.name, reason=reason, until=until)
        await audit.record(
            request,
            db,
            "pause schedule",
            target=schedule.name,
            reason=reason,
            done=paused is not None,
        )
    raise web.HTTPSeeOther(schedule_path(schedule.name))


@requires("schedules.pause")
async def resume(request: web.Request) -> web.Response:
    """Resume from now on; what was missed is not caught up."""
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        resumed = await holds.resume(db, schedule.id, by=session_of(request).name)
        await audit.record(
            request, db, "resume schedule", target=schedule.name, done=resumed is not None
        )
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


ROUTES = [
    web.get("/schedules/{name}/pause", ask_pause),
    web.post("/schedules/{name}/pause", pause),
    web.post("/schedules/{name}/resume", resume),
]
