"""The list of schedules."""

from aiohttp import web

from quarterjack.queries import calendars, cluster, holds, managed, runs, schedules
from quarterjack_admin import standing
from quarterjack_admin.keys import reading
from quarterjack_admin.ownership import owner
from quarterjack_admin.paging import read_page
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page

PAGE = 100
BARS = 30
STATES = ("all", "active", "paused", "late")


@requires("view")
async def show(request: web.Request) -> web.Response:
    """List schedules with what they mean, how they did and when they run next."""
    search = request.query.get("q", "").strip()[:200]
    state = request.query.get("state", "all")
    state = state if state in STATES else "all"
    number = read_page(request.query.get("page"))
    async with reading(request) as db:
        shell = await look_around(db)
        listed = await schedules.page(
            db, search=search, state=state, limit=PAGE, offset=(number - 1) * PAGE
        )
        known = await calendars.named(db, listed.schedules)
        names = [schedule.name for schedule in listed.schedules]
        latest = await runs.latest(db, names, each=BARS)
        said = await managed.of(db, [schedule.id for schedule in listed.schedules])
        lease = await cluster.lease(db)
        frozen = await holds.frozen(db)
    led = lease is not None and lease.led
    rows = [
        {
            "schedule": schedule,
            "meaning": standing.meaning(schedule, known),
            "status": standing.status(schedule, shell.now, led=led),
            "owner": owner(schedule, said),
            "chart": standing.chart(latest[schedule.name]),
            "last": next(iter(latest[schedule.name]), None),
        }
        for schedule in listed.schedules
    ]
    return page(
        request,
        "schedules.html",
        shell=shell,
        rows=rows,
        frozen=frozen,
        listed=listed,
        search=search,
        state=state,
        states=STATES,
        number=number,
    )


ROUTES = [web.get("/schedules", show)]
