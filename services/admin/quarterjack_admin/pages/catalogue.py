"""What workers can run, with the schedules of each."""

from aiohttp import web

from quarterjack.queries import schedules
from quarterjack_admin import forms
from quarterjack_admin.keys import reading
from quarterjack_admin.paging import read_page
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page

PAGE = 100


@requires("view")
async def show(request: web.Request) -> web.Response:
    """List the jobs that workers have registered."""
    search = request.query.get("q", "").strip()[:200]
    number = read_page(request.query.get("page"))
    async with reading(request) as db:
        shell = await look_around(db)
        found = await schedules.job_types(
            db, search=search, offset=(number - 1) * PAGE, limit=PAGE + 1
        )
        types = found[:PAGE]
        names = await schedules.names_by_worker(db, [each.worker for each in types])
    rows = [
        {
            "type": each,
            "properties": forms.properties_of(each),
            "schedules": names.get(each.worker, []),
        }
        for each in types
    ]
    return page(
        request,
        "catalogue.html",
        shell=shell,
        rows=rows,
        search=search,
        number=number,
        more=len(found) > PAGE,
    )


ROUTES = [web.get("/catalogue", show)]
