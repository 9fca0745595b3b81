"""The stream of one open page: a number for every change, at most one a second."""

import asyncio
from contextlib import suppress

from aiohttp import web

from quarterjack.database import LOST
from quarterjack.queries import access
from quarterjack_admin.guard import IDLE
from quarterjack_admin.keys import HUB, POOL, session_of
from quarterjack_admin.permissions import requires

AT_MOST_EVERY = 1.0
HEARTBEAT = 10.0


@requires("view")
async def stream(request: web.Request) -> web.StreamResponse:
    """Send `changed` events until the page, its session or this process is gone."""
    hub, session = request.app[HUB], session_of(request)
    with hub.stream(session.user_id, lambda: request.transport is not None) as allowed:
        if not allowed:
            raise web.HTTPTooManyRequests(headers={"Retry-After": "10"})
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        with suppress(*LOST):  # the page may be gone before its answer begins
            await response.prepare(request)
            await _send(request, response, session.token_hash)
    return response


async def _send(request: web.Request, response: web.StreamResponse, token_hash: bytes) -> None:
    hub, pool = request.app[HUB], request.app[POOL]
    seen = hub.version
    await response.write(b": hello\n\n")
    while await access.find_session(pool, token_hash, idle=IDLE) is not None:
        version = await hub.next_after(seen, within=HEARTBEAT)
        if hub.closing:
            return
        if version == seen:
            await response.write(b": still here\n\n")
            continue
        seen = version
        await response.write(b"event: changed\ndata: %d\n\n" % seen)
        await asyncio.sleep(AT_MOST_EVERY)


ROUTES = [web.get("/events", stream, allow_head=False)]
