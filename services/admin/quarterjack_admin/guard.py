"""The three gates of a request: who asks, from which site, and is it allowed.

Unsafe methods must pass two independent checks: fetch metadata (or, where a browser sends none, the origin),
and the token of the session. A refusal says which one failed.
"""

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

from aiohttp import web

from quarterjack.queries import access
from quarterjack.queries.access import Session
from quarterjack_admin.keys import CONFIG, LIMITS, POOL, SESSION
from quarterjack_admin.limits import ACTION, PREVIEW
from quarterjack_admin.permissions import PUBLIC, may, permission_of

IDLE = timedelta(minutes=30)
LASTS = timedelta(hours=12)
SIGNED_OUT = (
    "You are signed out, so nothing can be saved. Sign in again in another tab, then go on here."
)
SAFE = ("GET", "HEAD")
PROBES = ("/live", "/ready")
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Denied(web.HTTPForbidden):
    """Carries what is missing, for the page that says so."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason="Forbidden")
        self.what = reason


def digest(token: str) -> bytes:
    """Give what is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


def seal(session: Session, text: str) -> str:
    """Give the proof that this session was told a text, for an address that anybody could write otherwise."""
    return hmac.new(session.csrf_token.encode(), text.encode(), hashlib.sha256).hexdigest()[:32]


def cookie_name(request: web.Request) -> str:
    return "__Host-sid" if request.app[CONFIG].secure else "quarterjack_sid"


async def start_session(request: web.Request, response: web.Response, user_id: int) -> None:
    """Open a session with a fresh id and hand it to the browser."""
    token = secrets.token_urlsafe(32)
    await access.open_session(
        request.app[POOL],
        user_id,
        token_hash=digest(token),
        csrf_token=secrets.token_urlsafe(32),
        user_agent=request.headers.get("User-Agent", "")[:200],
        address=request.remote or "",
        lasts=LASTS,
    )
    response.set_cookie(
        cookie_name(request),
        token,
        httponly=True,
        samesite="Lax",
        path="/",
        secure=request.app[CONFIG].secure,
    )


async def end_session(request: web.Request, response: web.Response) -> None:
    """Close the session and make the browser forget it."""
    session: Session | None = request[SESSION]
    if session is not None:
        await access.close_session(request.app[POOL], session.token_hash)
    response.del_cookie(
        cookie_name(request), path="/", secure=request.app[CONFIG].secure, httponly=True
    )
    response.headers["Clear-Site-Data"] = '"cache", "storage"'


@web.middleware
async def guard(request: web.Request, handler: Next) -> web.StreamResponse:
    """Let a request through, or say why not."""
    permission = permission_of(request.match_info.handler)
    request[SESSION] = None
    if request.path in PROBES or request.path.startswith("/static/"):
        return await handler(request)
    if request.host not in request.app[CONFIG].hosts:
        raise Denied(
            f"Refused: this admin is not {request.host[:100]}. Use the address that it was started with, "
            "or set QUARTERJACK_PUBLIC_URL to the one that browsers use."
        )
    request[SESSION] = session = await _find_session(request)
    if request.method not in SAFE:
        await _check_site(request, session)
    if permission == PUBLIC or permission is None:
        return await handler(request)
    if session is None:
        return _ask_to_sign_in(request)
    if not may(session.role, permission):
        _slow_down(request, session)
        await access.record(
            request.app[POOL],
            actor=session.name,
            action=permission,
            address=request.remote or "",
            target=request.path,
            result="denied",
        )
        raise Denied(f"Needs the permission {permission}. Ask an admin.")
    if request.method not in SAFE:
        _slow_down(request, session)
    return await handler(request)


def _ask_to_sign_in(request: web.Request) -> web.Response:
    """Lead to the sign-in and back; what a page asks by itself leaves it as it is, with all that was typed there."""
    if request.headers.get("HX-Request") or request.path.endswith("/preview"):
        return web.Response(text=SIGNED_OUT, status=401)
    target = str(request.rel_url) if request.method in SAFE else "/schedules"
    raise web.HTTPSeeOther(
        str(request.app.router["sign_in"].url_for().with_query(next=safe_target(target)))
    )


def _slow_down(request: web.Request, session: Session) -> None:
    rate = PREVIEW if request.path.endswith("/preview") else ACTION
    if wait := request.app[LIMITS].wait(rate, session.name):
        raise web.HTTPTooManyRequests(headers={"Retry-After": str(math.ceil(wait))})


async def _find_session(request: web.Request) -> Session | None:
    token = request.cookies.get(cookie_name(request))
    if not token:
        return None
    pool = request.app[POOL]
    session = await access.find_session(pool, digest(token), idle=IDLE)
    if session is not None and not request.headers.get("HX-Request"):
        await access.touch_session(pool, session.token_hash)
    return session


async def _check_site(request: web.Request, session: Session | None) -> None:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        raise Denied(f"Refused: the request came from another site (Sec-Fetch-Site: {site}).")
    origin = request.headers.get("Origin")
    if site is None and origin not in request.app[CONFIG].origins:
        expected = " or ".join(sorted(request.app[CONFIG].origins))
        raise Denied(
            f"Refused: the origin is {(origin or 'missing')[:100]}, not {expected}. "
            "Behind a proxy set QUARTERJACK_PUBLIC_URL to the address that browsers use."
        )
    try:
        sent = await request.post()
    except (ValueError, LookupError) as error:
        raise web.HTTPBadRequest(reason="The form cannot be read. Nothing was changed.") from error
    if session is not None:
        given = sent.get("csrf_token") or request.headers.get("X-CSRF-Token", "")
        if not hmac.compare_digest(str(given).encode(), session.csrf_token.encode()):
            raise Denied("Refused: the form is not of this session. Load the page again.")


def safe_target(target: str | None) -> str:
    """Give a path of this site; anything else becomes the front page. Browsers leave out tabs and line ends."""
    if not target or not target.isprintable() or not re.match(r"/(?![/\\])", target):
        return "/schedules"
    return target
