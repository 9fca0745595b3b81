"""What workers can run, with the schedules of each."""

from aiohttp import web

from quarterjack.queries import schedules
from quarterjack_admin import forms
from quarterjack_admin.keys import reading
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page


@requires("view")
async def show(request: web.Request) -> web.Response:
    """List every job that a worker has registered."""
    async with reading(request) as db:
        shell = await look_around(db)
        types = await schedules.job_types(db)
        names = await schedules.names_by_worker(db, [each.worker for each in types])
    rows = [
        {
            "type": each,
            "properties": forms.properties_of(each),
            "schedules": names.get(each.worker, []),
        }
        for each in types
    ]
    return page(request, "catalogue.html", shell=shell, rows=rows)


ROUTES = [web.get("/catalogue", show)]
