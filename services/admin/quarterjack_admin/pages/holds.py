"""Skip the next tick of one schedule; freeze all of them for an incident, and let them run again."""

from aiohttp import web

from quarterjack.queries import holds
from quarterjack_admin import audit
from quarterjack_admin.forms import read_reason
from quarterjack_admin.keys import reading, session_of, writing
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page, schedule_path


@requires("schedules.pause")
async def skip(request: web.Request) -> web.Response:
    """Let the next tick make no job."""
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        at = await holds.skip_next(db, schedule.id, by=session_of(request).name)
        await audit.record(
            request,
            db,
            "skip next run",
            target=schedule.name,
            after={"tick_at": at.isoformat()} if at else None,
            done=at is not None,
        )
    if at is None:
        said = "No next run is planned, so there is none to skip. Nothing was changed."
        return page(request, "error.html", status=409, title="Nothing to skip", said=said)
    raise web.HTTPSeeOther(schedule_path(schedule.name))


@requires("schedules.pause")
async def unskip(request: web.Request) -> web.Response:
    """Let the tick that was to be skipped make its job after all."""
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        done = await holds.unskip(db, schedule.id)
        await audit.record(
            request,
            db,
            "do not skip",
            target=schedule.name,
            done=done,
        )
    raise web.HTTPSeeOther(schedule_path(schedule.name))


@requires("schedules.freeze")
async def ask_freeze(request: web.Request) -> web.Response:
    """Say what a freeze does, and ask why."""
    async with reading(request) as db:
        return page(request, "freeze.html", shell=await look_around(db), problem=None)


@requires("schedules.freeze")
async def freeze(request: web.Request) -> web.Response:
    """Freeze every schedule."""
    reason = read_reason(await request.post())
    async with writing(request) as db:
        if not reason:
            said = "Say why: everyone will want to know."
            shell = await look_around(db)
            return page(request, "freeze.html", status=422, shell=shell, problem=said)
        done = await holds.freeze(db, by=session_of(request).name, reason=reason)
        await audit.record(request, db, "freeze all", reason=reason, done=done)
    raise web.HTTPSeeOther("/schedules")


@requires("schedules.freeze")
async def thaw(request: web.Request) -> web.Response:
    """End the freeze; what was due meanwhile is not caught up."""
    async with writing(request) as db:
        done = await holds.thaw(db)
        await audit.record(request, db, "end the freeze", done=done)
    raise web.HTTPSeeOther("/schedules")


ROUTES = [
    web.post("/schedules/{name}/skip", skip),
    web.post("/schedules/{name}/unskip", unskip),
    web.get("/freeze", ask_freeze),
    web.post("/freeze", freeze),
    web.post("/thaw", thaw),
]
