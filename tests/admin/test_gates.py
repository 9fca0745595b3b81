"""Every route, against every role and every kind of foreign request: a new one must be entered here."""

import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from quarterjack_admin.app import make_app
from quarterjack_admin.config import Config
from quarterjack_admin.log_filters import FullPort
from quarterjack_admin.permissions import PUBLIC, ROLES
from tests.admin.conftest import Admin, Visitor, serve
from tests.conftest import TestDatabase
from tests.shared.test_rights import give_rights

NEEDED = """
public
    GET /, GET /live, GET /ready, GET /sign-in, POST /sign-in, GET /link/{token}, POST /link/{token}, POST /theme,
    GET /static/{digest}/{name}
view
    GET /account, POST /account/password, GET /calendars, GET /catalogue, GET /cluster, GET /events, GET /jobs,
    GET /jobs/{id}, GET /jobs/{id}/download, GET /queues, GET /queues/{name}, GET /queues/{name}/{form},
    GET /schedules, GET /schedules/{name}, GET /schedules/{name}/why, GET /workflows/{id}, POST /preview, POST /sign-out
jobs.run
    GET /catalogue/run, POST /catalogue/run, GET /schedules/{name}/run, POST /schedules/{name}/run
jobs.retry
    GET /jobs/all/retry, POST /jobs/all/retry, POST /jobs/{id}/retry
jobs.cancel
    GET /jobs/all/cancel, POST /jobs/all/cancel, POST /jobs/{id}/cancel
jobs.delete
    GET /jobs/all/delete, POST /jobs/all/delete
schedules.pause
    GET /schedules/{name}/pause, POST /schedules/{name}/pause, POST /schedules/{name}/resume,
    POST /schedules/{name}/skip, POST /schedules/{name}/unskip
schedules.edit
    GET /calendars/{name}, POST /calendars, POST /calendars/{name}/delete, GET /new-calendar, GET /new-schedule,
    POST /new-schedule, GET /schedules/{name}/backfill, POST /schedules/{name}/backfill,
    POST /schedules/{name}/backfill/{id}/stop, GET /schedules/{name}/delete, POST /schedules/{name}/delete,
    GET /schedules/{name}/edit, POST /schedules/{name}/edit, GET /schedules/{name}/restore
schedules.freeze
    GET /freeze, POST /freeze, POST /thaw
queues.pause
    POST /queues/{name}/pause, POST /queues/{name}/resume
queues.scale
    POST /queues/{name}/limits, POST /queues/{name}/scale, POST /queues/{name}/start, POST /queues/{name}/stop
"""
PLACES = {"{name}": "x", "{id}": "1", "{token}": "x", "{digest}": "x", "{form}": "pause"}
SEED = """
INSERT INTO qj_schedules (name, worker, cron) VALUES ('x', 'count', '0 3 * * *');
INSERT INTO oban_jobs (worker, state) VALUES ('count', 'available');
"""
HELD = """
SELECT concat(
  (SELECT json_agg(s) FROM qj_schedules AS s), (SELECT json_agg(j) FROM oban_jobs AS j),
  (SELECT count(*) FROM qj_queues), (SELECT count(*) FROM qj_calendars), (SELECT count(*) FROM qj_freeze),
  (SELECT count(*) FROM qj_audit WHERE result <> 'denied' AND action <> 'sign in'),
  (SELECT count(*) FROM qj_sessions)
)
"""


def needed() -> Iterator[tuple[str, str, str]]:
    permission = ""
    for line in filter(None, NEEDED.splitlines()):
        if not line.startswith(" "):
            permission = line
            continue
        for route in line.strip(" ,").split(", "):
            method, path = route.split()
            yield permission, method, path


def address(path: str) -> str:
    for place, value in PLACES.items():
        path = path.replace(place, value if "workflows" not in path else "0" * 32)
    return path


async def ask(visitor: Visitor, method: str, path: str, *, token: str, **headers: str) -> int:
    """Give the status; 401 where it leads to the sign-in."""
    data = {"csrf_token": token, "reason": "x", "name": "y", "days": "2026-01-01"}
    async with visitor.session.request(
        method,
        visitor.origin + address(path),
        data=data if method == "POST" else None,
        headers=headers,
        allow_redirects=False,
    ) as answer:
        out = answer.headers.get("Location", "").startswith("/sign-in?next=")
        return 401 if out else answer.status


def test_every_route_is_entered(database: TestDatabase) -> None:
    config = Config(
        database=database.address,
        node="n",
        host="127.0.0.1",
        port=1,
        origins=frozenset(),
        secure=False,
    )
    routes = {
        (route.method, route.resource.canonical)
        for route in make_app(config).router.routes()
        if route.resource and route.method != "HEAD"
    }

    assert routes == {(method, path) for _, method, path in needed()}


@pytest.mark.parametrize("role", [None, *ROLES])
async def test_each_route_lets_in_whom_it_should(admin: Admin, role: str | None) -> None:
    await admin.database.pool.execute(SEED)
    visitor = await (admin.signed_in("ann", role) if role else admin.visitor())
    await visitor.get("/account")
    wrong = []

    for permission, method, path in needed():
        if path == "/sign-out" and role:
            continue
        status = await ask(visitor, method, path, token=visitor.csrf, Origin=admin.origin)
        refused = status in (401, 403)
        if permission == PUBLIC or (role and permission in ROLES[role]):
            right = not refused and status < 500
        else:
            right = status == (403 if role else 401)
        if not right:
            wrong.append((method, path, status))

    assert not wrong


async def test_no_route_acts_for_another_site_or_session(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    visitor, other = await admin.signed_in("ann"), await admin.signed_in("ben")
    await visitor.get("/account")
    await other.get("/account")
    own, foreign = {"Origin": admin.origin}, {"Origin": "https://evil.example"}
    attempts = [
        ("", own),
        (other.csrf, own),
        (visitor.csrf, {}),
        (visitor.csrf, foreign),
        (visitor.csrf, {"Origin": "null"}),
        (visitor.csrf, own | {"Sec-Fetch-Site": "cross-site"}),
        (visitor.csrf, own | {"Sec-Fetch-Site": "same-site"}),
        (visitor.csrf, own | {"Host": "evil.example"}),
    ]
    before = await admin.database.pool.fetchval(HELD)

    accepted = [
        (path, token, headers)
        for _, method, path in needed()
        for token, headers in attempts
        if method == "POST" and await ask(visitor, method, path, token=token, **headers) != 403
    ]

    assert not accepted
    assert await admin.database.pool.fetchval(HELD) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_no_other_method_is_taken(admin: Admin, method: str) -> None:
    visitor = await admin.signed_in()
    await visitor.get("/account")

    statuses = {
        await ask(visitor, method, path, token="", Origin=admin.origin) for _, _, path in needed()
    }

    assert statuses <= {403, 405}


async def _as_documented(database: TestDatabase) -> TestDatabase:
    """Give the database to a role that has the documented rights and no others."""
    await give_rights(database)
    await database.pool.execute(SEED)
    url = database.url.replace("postgres@", "quarterjack@")
    return replace(database, address=replace(database.address, url=url, direct_url=url))


async def test_the_documented_rights_are_enough(database: TestDatabase) -> None:
    plain = await _as_documented(database)
    async with AsyncExitStack() as stack:
        visitor = await (await serve(plain, stack)).signed_in()
        await visitor.get("/account")
        asked = [
            (path, await ask(visitor, method, path, token=visitor.csrf, Origin=visitor.origin))
            for _, method, path in needed()
            if path != "/sign-out"
        ]

    assert not [(path, status) for path, status in asked if status >= 500]


async def test_a_right_that_is_missing_is_named(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    plain = await _as_documented(database)
    async with AsyncExitStack() as stack:
        visitor = await (await serve(plain, stack)).signed_in()
        await database.pool.execute("REVOKE SELECT ON qj_queues FROM quarterjack")

        page = await visitor.get("/queues")

    assert (page.status, "permission denied for table qj_queues" in page.text) == (500, True)
    assert "documentation names all that are needed" in page.text
    assert "permission denied for table qj_queues" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_port_without_room_is_said_now_and_then() -> None:
    full = FullPort()
    words = "socket.accept() out of system resource\nsocket: <socket.socket fd=8>"
    first, second = (
        logging.LogRecord("asyncio", logging.ERROR, "", 0, words, (), None) for _ in range(2)
    )

    assert [full(first), full(second)] == [True, False]
    assert first.getMessage() == (
        "no more connections are taken: too many files are open (ulimit -n)"
    )
    assert full(logging.LogRecord("asyncio", logging.ERROR, "", 0, "another", (), None))
