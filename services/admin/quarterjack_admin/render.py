"""Render a template into an answer, with what every page shows."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp_jinja2
import jinja2
from aiohttp import web

import quarterjack
from quarterjack.database import Connection
from quarterjack.queries import alerts, cluster, holds, losses
from quarterjack.queries.access import Session
from quarterjack_admin import assets, words
from quarterjack_admin.guard import SAFE, safe_target
from quarterjack_admin.keys import CONFIG, SESSION
from quarterjack_admin.permissions import may

SHOWN_ALERTS = 3
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "quarterjack_theme"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that a person should look at."""

    text: str
    link: str = "/cluster"
    link_text: str = "See the cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What every page shows besides itself; `now` is the database's clock."""

    now: datetime
    alarms: list[Alarm] = field(default_factory=list)


def set_up(app: web.Application) -> None:
    """Prepare the templates: everything is escaped, and an unknown name is an error."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("quarterjack_admin"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(
        asset=assets.address,
        version=quarterjack.__version__,
        schedule_path=schedule_path,
        themes=THEMES,
    )


def schedule_path(name: str, verb: str = "") -> str:
    """Give the path of a schedule's page, whatever characters its name holds."""
    path = f"/schedules/{quote(name, safe='')}"
    return f"{path}/{verb}" if verb else path


async def look_around(db: Connection) -> Shell:
    """Read what every page shows."""
    lease = await cluster.lease(db)
    unserved = await cluster.unserved_queues(db)
    hold = await holds.frozen(db)
    now = lease.read_at if lease else datetime.now(UTC)
    alarms = []
    if hold:
        text = f"All schedules are frozen, by {hold.frozen_by} {words.away(hold.frozen_at, now)}: {hold.reason}"
        alarms.append(Alarm(text=text, link="/schedules", link_text="See the schedules"))
    if lease is None or not lease.led:
        since = lease and lease.expires_at
        ago = f" for {words.took(now - since)}" if since else ""
        alarms.append(Alarm(text=f"No scheduler leads{ago}. Schedules are not being enqueued."))
    if unserved:
        names = ", ".join(unserved[:5])
        alarms.append(Alarm(text=f"No worker of Quarterjack takes jobs from {names}."))
    if lost := await losses.recent(db):
        text = (
            f"A failover of the database took back {lost} decided ticks within the last day. "
            "They were decided again, so their jobs may have run twice; each is in qj_lost_ticks."
        )
        alarms.append(Alarm(text=text))
    alarms += [
        Alarm(text=alert.message, link=schedule_path(alert.schedule), link_text="See the schedule")
        for alert in await alerts.open(db, limit=SHOWN_ALERTS)
    ]
    return Shell(now=now, alarms=alarms)


def page(
    request: web.Request,
    template: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    shell: Shell | None = None,
    **context: Any,
) -> web.Response:
    """Render a whole page."""
    session: Session | None = request.get(SESSION)
    theme = request.cookies.get(THEME_COOKIE, "auto")
    whole = {
        "shell": shell or Shell(now=datetime.now(UTC)),
        "session": session,
        "csrf_token": session.csrf_token if session else "",
        "can": lambda permission: session is not None and may(session.role, permission),
        "theme": theme if theme in THEMES else "auto",
        "path": request.path,
        "here": _here(request),
        **context,
    }
    response = aiohttp_jinja2.render_template(template, request, whole, status=status)
    response.headers.update(headers or {})
    return response


def _here(request: web.Request) -> str:
    """Give the address to load a page again from; that of an action takes its form only, so the page it was on."""
    if request.method in SAFE:
        return safe_target(str(request.rel_url))
    came_from = request.headers.get("Referer", "")
    origins = [each for each in request.app[CONFIG].origins if came_from.startswith(f"{each}/")]
    return safe_target(came_from.removeprefix(origins[0]) if origins else None)
