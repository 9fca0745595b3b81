"""For the orchestrator: alive, and ready to answer from the database."""

import asyncio

from aiohttp import web

from quarterjack.database import LOST
from quarterjack.queries import clock
from quarterjack_admin.keys import POOL
from quarterjack_admin.permissions import PUBLIC, requires

PATIENCE = 2.0


@requires(PUBLIC)
async def live(_: web.Request) -> web.Response:
    """Say that the process answers."""
    return web.Response(text="ok\n")


@requires(PUBLIC)
async def ready(request: web.Request) -> web.Response:
    """Say whether the database answers too."""
    try:
        async with asyncio.timeout(PATIENCE):
            await clock.now(request.app[POOL])
    except LOST:
        return web.Response(status=503, text="the database does not answer\n")
    return web.Response(text="ok\n")


ROUTES = [web.get("/live", live), web.get("/ready", ready)]
