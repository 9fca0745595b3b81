"""Put the application together."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from aiohttp import web

from quarterjack import migrate
from quarterjack.database import open_pool, patiently
from quarterjack.telemetry import Telemetry
from quarterjack_admin import answers, assets, guard, render
from quarterjack_admin.config import Config
from quarterjack_admin.events import Hub
from quarterjack_admin.keys import CONFIG, HUB, LIMITS, PASSWORDS, POOL, TELEMETRY
from quarterjack_admin.limits import Limits
from quarterjack_admin.pages import (
    backfill,
    bulk,
    calendars,
    catalogue,
    cluster,
    edit,
    health,
    holds,
    job,
    job_actions,
    live,
    new,
    pause,
    queue_limits,
    queues,
    run_now,
    runs,
    schedule,
    schedules,
    sign_in,
    why,
    workflow,
)
from quarterjack_admin.passwords import Passwords
from quarterjack_admin.permissions import check_routes

LARGEST_BODY = 256 * 1024
PATIENCE = 60.0
POOL_SIZE = 5
PAGES = (
    backfill,
    bulk,
    calendars,
    catalogue,
    cluster,
    edit,
    health,
    holds,
    job,
    job_actions,
    live,
    new,
    pause,
    queue_limits,
    queues,
    run_now,
    runs,
    schedule,
    schedules,
    sign_in,
    why,
    workflow,
)


def make_app(config: Config) -> web.Application:
    """Make the application; it opens its pool when it starts."""
    app = web.Application(
        client_max_size=LARGEST_BODY, middlewares=[answers.trace, answers.answer, guard.guard]
    )
    app[CONFIG] = config
    app[HUB] = Hub()
    app[LIMITS] = Limits()
    app[PASSWORDS] = Passwords()
    app[TELEMETRY] = Telemetry("quarterjack-admin", config.node)
    render.set_up(app)
    for module in (assets, *PAGES):
        app.router.add_routes(module.ROUTES)
    check_routes(app)
    app.on_response_prepare.append(answers.add_headers)
    app.on_shutdown.append(app[HUB].close)
    app.cleanup_ctx.append(_database)
    return app


async def _database(app: web.Application) -> AsyncIterator[None]:
    config, telemetry = app[CONFIG], app[TELEMETRY]
    async with open_pool(
        config.database,
        name=f"quarterjack-admin {config.node}",
        size=POOL_SIZE,
        patience=PATIENCE,
        reset=False,
    ) as pool:
        await patiently(partial(migrate.check_for_service, pool), PATIENCE)
        app[POOL] = pool
        who = f"quarterjack-admin {config.node} listener"
        beside = [
            asyncio.create_task(telemetry.run(pool)),
            asyncio.create_task(app[HUB].run(config.database, pool, who)),
        ]
        yield
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
