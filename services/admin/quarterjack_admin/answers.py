"""Headers for every answer, and pages for every failure; nothing of an error leaves but a request id."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

import asyncpg
from aiohttp import web

from quarterjack_admin.guard import Denied
from quarterjack_admin.keys import CONFIG, TELEMETRY, TRACEPARENT
from quarterjack_admin.render import page

log = logging.getLogger(__name__)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

AWAY = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
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
    except Denied as error:
        return page(request, "error.html", status=403, title="Not allowed", said=error.what)
    except web.HTTPNotFound as error:
        said = error.text if error.reason == "Gone" else "There is no such page."
        return page(request, "error.html", status=404, title="Not found", said=said)
    except web.HTTPMethodNotAllowed:
        return page(
            request,
            "error.html",
            status=405,
            title="Not so",
            said="This address does not take that kind of request.",
        )
    except web.HTTPRequestEntityTooLarge:
        return page(
            request, "error.html", status=413, title="Too large", said="That is too much to take."
        )
    except web.HTTPTooManyRequests as error:
        wait = error.headers["Retry-After"]
        return page(
            request,
            "error.html",
            status=429,
            headers={"Retry-After": wait},
            title="Too many at once",
            said=f"Nothing was done. Wait {wait} s, then try again.",
        )
    except web.HTTPException:
        raise
    except (asyncpg.DataError, UnicodeError):
        said = "It holds characters or numbers that Postgres cannot store. Nothing was changed."
        return page(request, "error.html", status=400, title="Cannot be read", said=said)
    except AWAY as error:
        log.warning("the database is away: %s", type(error).__name__)
        again = {"Refresh": "3"} if request.method == "GET" else {}
        return page(
            request,
            "away.html",
            status=503,
            headers={"Retry-After": "2", **again},
            slow=isinstance(error, asyncpg.QueryCanceledError),
        )
    except Exception:
        id = secrets.token_hex(6)
        log.exception("request %s failed: %s %s", id, request.method, request.path)
        return page(
            request,
            "error.html",
            status=500,
            title="That failed",
            said=f"It is in the log of this admin as request {id}.",
        )


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
        response = await handler(request)
        if response.status >= 500:
            span.error = f"HTTP {response.status}"
        return response
