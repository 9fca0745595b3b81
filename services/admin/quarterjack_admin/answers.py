"""Headers for every answer, and pages for every failure; nothing of an error leaves but a request id."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

import asyncpg
from aiohttp import ClientConnectionResetError, web

from quarterjack_admin.guard import Denied
from quarterjack_admin.keys import CONFIG, TELEMETRY, TRACEPARENT
from quarterjack_admin.render import page

log = logging.getLogger(__name__)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

AWAY = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
HELD_UP = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
)
CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
}
UNSTORABLE = "It holds characters or numbers that Postgres cannot store. Nothing was changed."
RIGHTS = (
    "Nothing was changed. Whoever keeps the database can grant it to the role of this admin; "
    "the page Security of the documentation names all that are needed."
)
REFUSALS = {
    404: ("Not found", "There is no such page."),
    405: ("Not so", "This address does not take that kind of request."),
    413: ("Too large", "That is too much to take."),
}
HSTS = "max-age=31536000; includeSubDomains"


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Give every answer the same protection."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    if request.app[CONFIG].secure:
        response.headers["Strict-Transport-Security"] = HSTS
    response.headers.pop("Server", None)


@web.middleware
async def answer(request: web.Request, handler: Next) -> web.StreamResponse:
    """Turn whatever goes wrong into a page that says so."""
    try:
        return await handler(request)
    except web.HTTPClientError as error:
        return _refuse(request, error)
    except (web.HTTPException, ClientConnectionResetError):
        raise  # the second: whoever asked has gone
    except (asyncpg.DataError, UnicodeError):
        return _say(request, 400, "Cannot be read", UNSTORABLE)
    except (*AWAY, *HELD_UP) as error:
        log.warning("the database gave no answer: %s", type(error).__name__)
        asked = request.method == "GET"
        headers = {"Retry-After": "2"} | ({"Refresh": "3"} if asked else {})
        slow = isinstance(error, HELD_UP)
        return page(request, "away.html", status=503, headers=headers, slow=slow, asked=asked)
    except asyncpg.InsufficientPrivilegeError as error:
        log.error("%s %s was refused by the database: %s", request.method, request.path, error)
        return _say(request, 500, "A right is missing", f"The database says: {error}. {RIGHTS}")
    except Exception:
        id = secrets.token_hex(6)
        log.exception("request %s failed: %s %s", id, request.method, request.path)
        said = f"It is in the log of this admin as request {id}."
        return _say(request, 500, "That failed", said)


def _refuse(request: web.Request, error: web.HTTPClientError) -> web.Response:
    if isinstance(error, Denied):
        return _say(request, 403, "Not allowed", error.what)
    if isinstance(error, web.HTTPTooManyRequests):
        wait = error.headers["Retry-After"]
        said = f"Nothing was done. Wait {wait} s, then try again."
        return _say(request, 429, "Too many at once", said, {"Retry-After": wait})
    if isinstance(error, web.HTTPNotFound) and error.reason == "Gone":
        return _say(request, 404, "Not found", error.text or "")
    title, said = REFUSALS.get(error.status, ("Not so", error.reason))
    return _say(request, error.status, title, said)


def _say(
    request: web.Request,
    status: int,
    title: str,
    said: str,
    headers: dict[str, str] | None = None,
) -> web.Response:
    return page(request, "error.html", status=status, headers=headers, title=title, said=said)


@web.middleware
async def trace(request: web.Request, handler: Next) -> web.StreamResponse:
    """Record a span of each request that a person made; pages that refresh themselves are not of interest."""
    telemetry = request.app[TELEMETRY]
    resource = request.match_info.route.resource
    if not telemetry.on or resource is None or request.headers.get("HX-Request"):
        return await handler(request)
    path = resource.canonical
    if path in ("/live", "/ready") or path.startswith("/static"):
        return await handler(request)
    with telemetry.span(f"{request.method} {path}", kind="server") as span:
        request[TRACEPARENT] = span.traceparent
        try:
            response = await handler(request)
        except web.HTTPRedirection as error:
            moved = error
        else:
            if response.status >= 500:
                span.error = f"HTTP {response.status}"
            return response
    raise moved
