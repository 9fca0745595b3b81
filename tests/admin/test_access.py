"""Closed until someone signs in; every gate refuses what it should."""

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from quarterjack_admin.answers import HEADERS
from quarterjack_admin.permissions import ROLES, check_routes
from tests.admin.conftest import PASSWORD, Admin, link, serve
from tests.conftest import TestDatabase

DOCUMENTED = Path(__file__).parents[2] / "docs" / "admin.md"
SCHEDULE = "INSERT INTO qj_schedules (name, worker, cron) VALUES ('nightly', 'count', '0 3 * * *')"
PAGES = ("/schedules", "/schedules/nightly", "/schedules/nightly/edit", "/jobs", "/jobs/1", "/cluster", "/queues",
         "/catalogue", "/account", "/new-schedule", "/events", "/schedules/nightly/run")  # fmt: skip


async def test_every_page_asks_to_sign_in(admin: Admin) -> None:
    await admin.database.pool.execute(SCHEDULE)
    visitor = await admin.visitor()

    seen = [await visitor.get(path) for path in PAGES]

    assert all(page.path.startswith("/sign-in?next=") for page in seen)
    assert all("nightly" not in page.text for page in seen)


async def test_there_is_no_account_at_first(admin: Admin) -> None:
    visitor = await admin.visitor()
    for name in ("admin", "root", "postgres"):
        assert (await visitor.sign_in(name, name)).status == 422

    assert "Nobody can sign in yet" in (await visitor.get("/sign-in")).text


async def test_a_link_makes_the_first_admin_once(admin: Admin) -> None:
    path = await link(admin.database)
    first, second = await admin.visitor(), await admin.visitor()
    looked = await first.get(path)
    entered = await first.post(path, {"password": PASSWORD})
    again = await second.post(path, {"password": PASSWORD})

    assert "first admin" in looked.text
    assert entered.path == "/schedules"
    assert again.status == 410
    assert (await second.sign_in("admin")).path == "/schedules"


async def test_a_link_without_a_password_signs_in(admin: Admin) -> None:
    visitor = await admin.visitor()

    assert (await visitor.post(await link(admin.database))).path == "/schedules"
    assert (await visitor.post("/account/password", {"password": PASSWORD})).status == 200
    assert (await (await admin.visitor()).sign_in("admin")).path == "/schedules"


async def test_a_late_link_is_refused(admin: Admin) -> None:
    path = await link(admin.database)
    await admin.database.pool.execute("UPDATE qj_sign_in_links SET expires_at = now()")

    assert (await (await admin.visitor()).post(path)).status == 410


async def test_passwords_that_cannot_be_used_are_refused(admin: Admin) -> None:
    visitor = await admin.visitor()
    path = await link(admin.database)

    refused = await visitor.post(path, {"password": "short"})

    assert refused.status == 422
    assert "at least 12 characters" in refused.text
    assert (await visitor.post(path, {"password": PASSWORD})).path == "/schedules"


async def test_signing_out_ends_the_session(admin: Admin) -> None:
    visitor = await admin.signed_in()
    kept = {c.key: c.value for c in visitor.session.cookie_jar}
    await visitor.get("/account")
    await visitor.post("/sign-out")

    thief = await admin.visitor()
    thief.session.cookie_jar.update_cookies(kept)
    assert (await thief.get("/schedules")).path.startswith("/sign-in")


@pytest.mark.parametrize(("method", "path"), [("POST", "/preview"), ("GET", "/queues/sums")])
async def test_what_a_page_asks_by_itself_leads_nobody_away_from_it(
    admin: Admin, method: str, path: str
) -> None:
    visitor = await admin.visitor()
    sent = {"Origin": admin.origin, "HX-Request": "true"}

    async with visitor.session.request(method, admin.origin + path, headers=sent) as answer:
        said = await answer.text()

    assert answer.status == 401
    assert "Sign in again in another tab" in said
    assert "HX-Redirect" not in answer.headers


async def test_trying_often_is_slowed_down(admin: Admin) -> None:
    await admin.signed_in("ben")
    visitor = await admin.visitor()
    answers = [await visitor.sign_in("ben", "wrong") for _ in range(6)]

    assert [page.status for page in answers[:4]] == [422] * 4
    assert answers[-1].status == 429
    assert int(answers[-1].headers["Retry-After"]) > 0


async def test_a_disabled_account_is_out_at_once(admin: Admin) -> None:
    visitor = await admin.signed_in()
    await admin.database.pool.execute("UPDATE qj_users SET disabled_at = now()")

    assert (await visitor.get("/schedules")).path.startswith("/sign-in")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Origin": "https://evil.example"}, "origin"),
        ({}, "origin is missing"),
        ({"Sec-Fetch-Site": "cross-site"}, "another site"),
        ({"Sec-Fetch-Site": "same-site"}, "another site"),
    ],
)
async def test_a_post_from_elsewhere_is_refused(
    admin: Admin, headers: dict[str, str], said: str
) -> None:
    await admin.database.pool.execute(SCHEDULE)
    visitor = await admin.signed_in()
    await visitor.get("/account")

    refused = await visitor.post("/schedules/nightly/pause", {"reason": "x"}, headers=headers)

    assert refused.status == 403
    assert said in refused.text
    assert not await admin.database.pool.fetchval("SELECT count(paused_at) FROM qj_schedules")


async def test_a_post_without_the_sessions_token_is_refused(admin: Admin) -> None:
    await admin.database.pool.execute(SCHEDULE)
    visitor = await admin.signed_in()
    visitor.csrf = "guessed"

    refused = await visitor.post("/schedules/nightly/pause", {"reason": "x"})

    assert refused.status == 403
    assert "not of this session" in refused.text


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("application/x-www-form-urlencoded; charset=none", b"reason=x"),
        ("application/x-www-form-urlencoded", b"reason=\xff"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(admin: Admin, kind: str, body: bytes) -> None:
    for visitor in (await admin.visitor(), await admin.signed_in()):
        headers = {"Origin": admin.origin, "Content-Type": kind}
        async with visitor.session.post(
            f"{admin.origin}/sign-in", data=body, headers=headers
        ) as said:
            assert said.status == 400
            assert "The form cannot be read" in await said.text()


async def test_another_host_name_is_refused(admin: Admin) -> None:
    visitor = await admin.visitor()

    assert (await visitor.get("/sign-in", Host="evil.example")).status == 403


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("viewer", set()),
        ("operator", {"/schedules/nightly/run", "/schedules/nightly/pause"}),
        ("admin", {"/schedules/nightly/run", "/schedules/nightly/pause", "/schedules/nightly/edit",
                   "/schedules/nightly/delete", "/new-schedule"}),
    ],
)  # fmt: skip
async def test_each_role_may_do_its_part(admin: Admin, role: str, allowed: set[str]) -> None:
    await admin.database.pool.execute(SCHEDULE)
    visitor = await admin.signed_in("ann", role)
    paths = ("run", "pause", "edit", "delete")
    asked = [f"/schedules/nightly/{verb}" for verb in paths] + ["/new-schedule"]

    assert {path for path in asked if (await visitor.get(path)).status == 200} == allowed
    page = await visitor.get("/schedules/nightly")
    assert page.status == 200
    assert {path for path in asked[:-1] if f'"{path}"' in page.html} == allowed - {"/new-schedule"}
    denied = await admin.database.pool.fetchval(
        "SELECT count(*) FROM qj_audit WHERE result = 'denied'"
    )
    assert denied == 5 - len(allowed)


async def test_every_answer_carries_the_headers(admin: Admin) -> None:
    visitor = await admin.signed_in()
    for path in (
        "/schedules",
        "/nowhere",
        "/live",
        "/static/0/tokens.css",
        "/sign-in",
        "/jobs/999",
    ):
        page = await visitor.get(path)
        assert {name: page.headers.get(name) for name in HEADERS} == HEADERS
        assert not [name for name in page.headers if name.startswith("Access-Control")]
        assert page.headers["Cache-Control"] == "no-store"


async def test_over_tls_the_cookie_is_bound_to_the_host(database: TestDatabase) -> None:
    async with AsyncExitStack() as stack:
        admin = await serve(database, stack, secure=True)
        visitor = await admin.visitor()
        async with visitor.session.post(
            admin.origin + await link(database),
            headers={"Origin": admin.origin},
            allow_redirects=False,
        ) as answer:
            cookie = answer.headers["Set-Cookie"]

    assert cookie.startswith("__Host-sid=")
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]


async def test_no_action_is_taken_on_get(admin: Admin) -> None:
    visitor = await admin.signed_in()
    for path in ("/sign-out", "/theme", "/preview"):
        assert (await visitor.get(path)).status == 405


async def test_probes_are_open(admin: Admin) -> None:
    visitor = await admin.visitor()

    assert [(await visitor.get(path)).status for path in ("/live", "/ready")] == [200, 200]


def test_a_route_without_a_permission_is_refused() -> None:
    async def forgotten(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/forgotten", forgotten)

    with pytest.raises(RuntimeError, match="/forgotten"):
        check_routes(app)


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "x", "/\t/evil.example", "/\r/x"],
)
async def test_signing_in_leads_to_no_other_site(admin: Admin, target: str) -> None:
    await admin.signed_in("cy")
    visitor = await admin.visitor()

    page = await visitor.post("/sign-in", {"name": "cy", "password": PASSWORD, "next": target})

    assert page.path == "/schedules"


def test_the_documented_permissions_are_the_real_ones() -> None:
    rows = re.findall(
        r"^\| `([a-z.]+)` \|(.*)\|(.*)\|(.*)\|$", DOCUMENTED.read_text(), re.MULTILINE
    )
    documented = {
        role: {row[0] for row in rows if row[place].strip() == "yes"}
        for place, role in enumerate(("viewer", "operator", "admin"), start=1)
    }

    assert documented == ROLES
