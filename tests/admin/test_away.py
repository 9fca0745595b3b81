"""A database that goes away: the pages say so, lose nothing, and recover by themselves."""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from quarterjack_admin.events import PER_ACCOUNT
from tests.admin.conftest import Admin, serve
from tests.conftest import TestDatabase
from tests.waiting import until

SCHEDULE = "INSERT INTO qj_schedules (name, worker, cron) VALUES ('nightly', 'count', '0 3 * * *')"
PAGES = ("/schedules", "/schedules/nightly", "/jobs", "/cluster", "/catalogue")


async def test_pages_say_that_the_database_is_away_and_recover(
    own_server_database: TestDatabase,
) -> None:
    database = own_server_database
    await database.pool.execute(SCHEDULE)
    async with AsyncExitStack() as stack:
        admin = await serve(database, stack)
        visitor = await admin.signed_in()
        database.server.stop("immediate")

        away = [await visitor.get(path) for path in PAGES]
        ready = await visitor.get("/ready")
        alive = await visitor.get("/live")
        acted = await visitor.post("/schedules/nightly/pause", {"reason": "x"})
        database.server.start()
        await until(lambda: _answers(admin), within=20)
        page = await visitor.get("/schedules")

    assert [each.status for each in away] == [503] * len(PAGES)
    assert all("The database does not answer" in each.text for each in away)
    assert all(each.headers["Refresh"] for each in away)
    assert not [
        each
        for each in away
        if "No schedules yet" in each.text
        or "nightly" in each.html.partition("<main")[2].replace("/schedules/nightly", "")
    ]
    assert (ready.status, alive.status, acted.status) == (503, 200, 503)
    assert "is not known: look before you send it again" in acted.text
    assert "nightly" in page.text


async def _answers(admin: Admin) -> bool:
    return (await (await admin.visitor()).get("/ready")).status == 200


async def test_what_somebody_else_holds_is_left_and_asked_for_again(admin: Admin) -> None:
    pool = admin.database.pool
    await pool.execute(SCHEDULE)
    ana = await admin.signed_in()
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE qj_schedules IN ACCESS EXCLUSIVE MODE")
        acted = await ana.post("/schedules/nightly/pause", {"reason": "x"})
        asked = await ana.get("/schedules")

    assert (acted.status, asked.status) == (503, 503)
    assert "somebody else holds what this needs" in acted.text
    assert "send it again" in acted.text
    assert "Try again" not in acted.text
    assert asked.headers["Refresh"]
    assert "Try again" in asked.text


async def test_a_page_that_is_gone_before_its_stream_begins_is_no_error(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As who goes from page to page quickly leaves it."""
    ana = await admin.signed_in()
    begin = web.StreamResponse.prepare

    async def prepare(response: web.StreamResponse, request: web.BaseRequest) -> Any:
        if request.path == "/events" and request.transport is not None:
            request.transport.close()
        return await begin(response, request)

    monkeypatch.setattr(web.StreamResponse, "prepare", prepare)
    with pytest.raises(aiohttp.ClientError):
        await ana.get("/events")

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_pages_that_are_gone_take_no_place_from_those_that_come(admin: Admin) -> None:
    ana = await admin.signed_in()
    for _ in range(PER_ACCOUNT):
        async with ana.session.get(f"{admin.origin}/events") as gone:
            await gone.content.readany()
            gone.close()

    async with AsyncExitStack() as open_pages:
        statuses = []
        for _ in range(PER_ACCOUNT + 1):
            stream = ana.session.get(f"{admin.origin}/events")
            statuses.append((await open_pages.enter_async_context(stream)).status)

    assert statuses == [200] * PER_ACCOUNT + [429]


async def test_an_account_takes_its_share_of_the_streams_in_however_many_sessions(
    admin: Admin,
) -> None:
    ana = await admin.signed_in("ana")
    ben = await admin.signed_in("ben")
    async with AsyncExitStack() as open_pages:
        statuses = []
        for number in range(PER_ACCOUNT + 1):
            if number % 5 == 4:
                await ana.sign_in("ana")
            stream = ana.session.get(f"{admin.origin}/events")
            statuses.append((await open_pages.enter_async_context(stream)).status)
        async with ben.session.get(f"{admin.origin}/events") as other:
            statuses.append(other.status)
        page = await ana.get("/queues/sums")

        async with ana.session.head(f"{admin.origin}/events") as headers:
            statuses.append(headers.status)

    assert statuses == [200] * PER_ACCOUNT + [429, 200, 405]
    assert "every 2s" in page.html


async def test_an_open_page_keeps_no_admin_from_ending(database: TestDatabase) -> None:
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as running:
            admin = await serve(database, running)
            ana = await Admin(admin.origin, database, stack).signed_in()
            stream = ana.session.get(f"{admin.origin}/events")
            page = await stack.enter_async_context(stream)
            await page.content.readany()
            async with asyncio.timeout(10):
                await running.aclose()

        assert await page.content.read() == b""
