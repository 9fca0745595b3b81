"""Sign in with a password or a one-time link, sign out, change the password, choose the theme."""

import math

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.queries import access
from quarterjack.queries.access import User
from quarterjack_admin.guard import digest, end_session, safe_target, start_session
from quarterjack_admin.keys import CONFIG, LIMITS, PASSWORDS, POOL, SESSION, session_of, writing
from quarterjack_admin.limits import ACCOUNT, ADDRESS
from quarterjack_admin.passwords import problem_with
from quarterjack_admin.permissions import PUBLIC, requires
from quarterjack_admin.render import THEME_COOKIE, THEMES, page

FIRST_NAME = "admin"
LONGEST_NAME = 127
YEAR = 365 * 86_400


@requires(PUBLIC)
async def front(_: web.Request) -> web.Response:
    """Lead to the schedules."""
    raise web.HTTPSeeOther("/schedules")


@requires(PUBLIC)
async def form(request: web.Request) -> web.Response:
    """Show the form; before there is an admin, say how to become the first."""
    if request[SESSION] is not None:
        raise web.HTTPSeeOther("/schedules")
    return await _form(request, next=safe_target(request.query.get("next")))


@requires(PUBLIC)
async def sign_in(request: web.Request) -> web.Response:
    """Check name and password; the answer is the same, and as slow, for an unknown name."""
    given = await request.post()
    name, password = str(given.get("name", "")).strip().lower(), str(given.get("password", ""))
    target = safe_target(str(given.get("next", "")))
    passwords, pool = request.app[PASSWORDS], request.app[POOL]
    if wait := _wait(request, name):
        seconds = math.ceil(wait)
        said = f"Too many tries. Wait {seconds} s, then try again."
        return await _form(
            request,
            next=target,
            name=name,
            said=said,
            status=429,
            headers={"Retry-After": str(seconds)},
        )
    user = await access.find_user(pool, name)
    usable = user is not None and user.disabled_at is None
    fits = await passwords.fits(password, user.password_hash if user and usable else None)
    await access.record(
        pool,
        actor=name[:LONGEST_NAME],
        action="sign in",
        address=request.remote or "",
        result="ok" if fits else "denied",
    )
    if user is None or not fits:
        said = "Name and password do not fit."
        return await _form(request, next=target, name=name, said=said, status=422)
    if user.password_hash and passwords.outdated(user.password_hash):
        await access.set_password(pool, user.id, await passwords.hash(password))
    return await _enter(request, user.id, target)


@requires(PUBLIC)
async def link_form(request: web.Request) -> web.Response:
    """Show what a one-time link will do; looking at it does not use it up."""
    open_still, user = await _owner(request)
    return _link(request, status=200 if open_still else 410, open=open_still, user=user)


@requires(PUBLIC)
async def use_link(request: web.Request) -> web.Response:
    """Sign its owner in, or the first admin, who is made if nobody is; a password is kept if one is given."""
    if wait := request.app[LIMITS].wait(ADDRESS, request.remote or ""):
        raise web.HTTPTooManyRequests(headers={"Retry-After": str(math.ceil(wait))})
    password = str((await request.post()).get("password", ""))
    open_still, user = await _owner(request)
    name = user.name if user else FIRST_NAME
    if open_still and password and (problem := problem_with(password, name=name)):
        return _link(request, status=422, open=True, user=user, said=problem)
    hashed = await request.app[PASSWORDS].hash(password) if open_still and password else None
    async with writing(request) as db:
        used = open_still and await access.use_link(db, digest(request.match_info["token"]))
        user_id = await _let_in(db, user, hashed) if used else None
        await access.record(
            db,
            actor=name,
            action="sign in by link",
            address=request.remote or "",
            result="ok" if user_id else "denied",
        )
    if user_id is None:
        return _link(request, status=410, open=False, user=user)
    return await _enter(request, user_id, "/schedules")


@requires("view")
async def sign_out(request: web.Request) -> web.Response:
    """End the session."""
    response = web.Response(status=303, headers={"Location": "/sign-in"})
    await end_session(request, response)
    return response


@requires("view")
async def account(request: web.Request) -> web.Response:
    """Show who is signed in."""
    return await _account(request)


@requires("view")
async def change_password(request: web.Request) -> web.Response:
    """Change one's own password and end one's other sessions."""
    given, session, pool = await request.post(), session_of(request), request.app[POOL]
    current, fresh = str(given.get("current", "")), str(given.get("password", ""))
    user = await access.find_user(pool, session.name)
    if wait := _wait(request, session.name):
        return await _account(
            request, said=f"Too many tries. Wait {math.ceil(wait)} s.", status=429
        )
    if user is None or (
        user.password_hash and not await request.app[PASSWORDS].fits(current, user.password_hash)
    ):
        return await _account(request, said="The current password does not fit.", status=422)
    if problem := problem_with(fresh, name=session.name):
        return await _account(request, said=f"The new password: {problem}.", status=422)
    hashed = await request.app[PASSWORDS].hash(fresh)
    async with writing(request) as db:
        await access.set_password(db, user.id, hashed)
        await access.close_sessions(db, user.id, but=session.token_hash)
        await access.record(
            db, actor=session.name, action="change password", address=request.remote or ""
        )
    return await _account(request, done="The password is changed. Other sessions have ended.")


@requires(PUBLIC)
async def choose_theme(request: web.Request) -> web.Response:
    """Keep the theme in a cookie, so that pages come in it from the first byte."""
    given = await request.post()
    theme, target = str(given.get("theme", "")), safe_target(str(given.get("next", "")))
    response = web.Response(status=303, headers={"Location": target})
    if theme in THEMES:
        response.set_cookie(
            THEME_COOKIE,
            theme,
            max_age=YEAR,
            httponly=True,
            samesite="Lax",
            secure=request.app[CONFIG].secure,
        )
    return response


def _wait(request: web.Request, name: str) -> float:
    """Count a try on this account from this address; the seconds until it may be made."""
    limits = request.app[LIMITS]
    return limits.wait(ADDRESS, request.remote or "") or limits.wait(ACCOUNT, name[:LONGEST_NAME])


async def _form(
    request: web.Request,
    *,
    next: str,
    name: str = "",
    said: str | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> web.Response:
    nobody = not await access.any_user(request.app[POOL])
    return page(
        request,
        "sign_in.html",
        status=status,
        headers=headers,
        next=next,
        name=name,
        said=said,
        nobody=nobody,
        origin=str(request.url.origin()),
    )


async def _owner(request: web.Request) -> tuple[bool, User | None]:
    """Say if the link of the address can be used, and whose it is: nobody's yet if it makes the first admin."""
    pool = request.app[POOL]
    link = await access.find_link(pool, digest(request.match_info["token"]))
    if link is None:
        return False, None
    if link.name is None:
        return True, await access.first_admin(pool)
    user = await access.find_user(pool, link.name)
    return (False, None) if user is None or user.disabled_at else (True, user)


def _link(
    request: web.Request, *, status: int, open: bool, user: User | None, said: str | None = None
) -> web.Response:
    return page(
        request, "link.html", status=status, open=open, user=user, first=FIRST_NAME, said=said
    )


async def _account(
    request: web.Request, *, said: str | None = None, done: str | None = None, status: int = 200
) -> web.Response:
    user = await access.find_user(request.app[POOL], session_of(request).name)
    has_password = user is not None and user.password_hash is not None
    return page(
        request, "account.html", status=status, said=said, done=done, has_password=has_password
    )


async def _let_in(db: Connection, user: User | None, hashed: str | None) -> int | None:
    if user is None:
        return await access.add_first_admin(db, FIRST_NAME, hashed)
    if hashed is not None:
        await access.set_password(db, user.id, hashed)
        await access.close_sessions(db, user.id)
    return user.id


async def _enter(request: web.Request, user_id: int, target: str) -> web.Response:
    response = web.Response(status=303, headers={"Location": target})
    await start_session(request, response, user_id)
    return response


ROUTES = [
    web.get("/", front),
    web.get("/sign-in", form, name="sign_in"),
    web.post("/sign-in", sign_in),
    web.get("/link/{token}", link_form),
    web.post("/link/{token}", use_link),
    web.post("/sign-out", sign_out),
    web.get("/account", account),
    web.post("/account/password", change_password),
    web.post("/theme", choose_theme),
]
