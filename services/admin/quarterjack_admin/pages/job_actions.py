"""Retry and cancel a job: acting on one that has changed meanwhile changes nothing, and says so."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.queries import bulk, runs
from quarterjack_admin import audit
from quarterjack_admin.keys import writing
from quarterjack_admin.pages.job import find_job
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import page

Act = Callable[[Connection, Sequence[int]], Awaitable[int]]


@requires("jobs.retry")
async def retry(request: web.Request) -> web.Response:
    """Make a job available again, under its own id."""
    return await _act(request, "retry job", bulk.retry)


@requires("jobs.cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job; one that our worker runs is asked to stop and stays executing until it has, or is gone."""
    return await _act(request, "cancel job", bulk.cancel)


async def _act(request: web.Request, action: str, act: Act) -> web.Response:
    """Act on the state that was seen; a job that has left it is left as it is."""
    seen = str((await request.post()).get("state", ""))
    async with writing(request) as db:
        job = (await find_job(request, db)).job
        held = await runs.hold(db, job.id)
        done = held is not None and held.state == seen and await act(db, [held.id]) == 1
        await audit.record(
            request,
            db,
            action,
            target=str(job.id),
            before={"state": job.state},
            done=done,
        )
    if not done:
        state = held.state if held else "gone"
        said = f"Job {job.id} is {state} by now. Nothing was changed."
        return page(request, "error.html", status=409, title="It has changed", said=said)
    return web.Response(status=303, headers={"Location": f"/jobs/{job.id}"})


ROUTES = [
    web.post(r"/jobs/{id:\d+}/retry", retry),
    web.post(r"/jobs/{id:\d+}/cancel", cancel),
]
