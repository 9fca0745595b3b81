"""Backfill in the admin: a dry run, one start however often it is sent, progress, and a stop."""

import asyncio
from html import unescape
from urllib.parse import urlencode

import pytest

from quarterjack.queries import backfills
from tests.admin.conftest import Admin, Page, Visitor
from tests.conftest import TestDatabase

PATH = "/schedules/nightly/backfill"
SCHEDULE = """
INSERT INTO qj_schedules (name, worker, cron, timezone, queue)
VALUES ('nightly', 'count', '30 2 * * *', 'Europe/Prague', 'sums')
"""
ASKED = {
    "from": "2026-03-20T00:00",
    "to": "2026-04-08T23:59:59",
    "per_minute": "90",
    "reason": "lost rows",
}
ROWS = "SELECT count(*) FROM qj_backfills"
AUDIT = (
    "SELECT actor, action, result, reason FROM qj_audit WHERE action LIKE '%backfill' ORDER BY id"
)


async def seed(database: TestDatabase) -> None:
    await database.pool.execute(SCHEDULE)


async def ask(visitor: Visitor, **changes: str) -> Page:
    return await visitor.get(f"{PATH}?{urlencode(ASKED | changes)}")


async def begin(visitor: Visitor) -> Page:
    return await visitor.post(PATH, (await ask(visitor)).fields())


async def test_a_dry_run_shows_what_would_be_made_and_makes_nothing(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()

    page = await ask(visitor)

    assert page.status == 200
    for said in (
        "20 jobs", "count", "queue sums", "made within 13 s", "Fri 20 Mar 01:30:00 UTC",
        "Tue 24 Mar 01:30:00 UTC and so on, to Sat 4 Apr 00:30:00 UTC", "Wed 8 Apr 00:30:00 UTC",
    ):  # fmt: skip
        assert said in page.text
    assert page.html.count("<li>") == 10
    assert await admin.database.pool.fetchval(ROWS) == 0


async def test_a_start_is_recorded_and_shown(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()

    page = await begin(visitor)

    assert page.path == "/schedules/nightly"
    for said in ("0 of 20", "at most 90 a minute", "Running", "ana", "“lost rows”", "Stop"):
        assert said in page.text
    [row] = await backfills.running(admin.database.pool, limit=10)
    assert (row.next_tick_at.isoformat(), row.per_minute) == ("2026-03-20T01:30:00+00:00", 90)
    assert [tuple(line) for line in await admin.database.pool.fetch(AUDIT)] == [
        ("ana", "start backfill", "ok", "lost rows")
    ]


async def test_of_many_starts_of_one_form_one_counts(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    form = (await ask(visitor)).fields()

    answers = await asyncio.gather(*(visitor.post(PATH, form) for _ in range(4)))
    await admin.database.pool.execute(
        "UPDATE qj_backfills SET state = 'done', ended_at = now(), next_tick_at = NULL"
    )
    late = await visitor.post(PATH, form)

    assert {page.path for page in (*answers, late)} == {"/schedules/nightly"}
    assert await admin.database.pool.fetchval(ROWS) == 1
    assert len(await admin.database.pool.fetch(AUDIT)) == 1


async def test_a_second_backfill_waits_for_the_first(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    await begin(visitor)

    refused = await begin(visitor)

    assert refused.status == 409
    assert "Another backfill of this schedule goes on" in refused.text
    assert await admin.database.pool.fetchval(ROWS) == 1


async def test_what_was_not_shown_is_not_started(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    form = (await ask(visitor)).fields()
    await admin.database.pool.execute("UPDATE qj_schedules SET cron = '0 * * * *'")

    again = await visitor.post(PATH, form)

    assert again.status == 409
    assert "was edited meanwhile" in again.text
    assert "480 jobs" in again.text
    assert await admin.database.pool.fetchval(ROWS) == 0


async def test_a_stop_ends_it_once(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    await begin(visitor)
    id = await admin.database.pool.fetchval("UPDATE qj_backfills SET made = 7 RETURNING id")

    stopped = await visitor.post(f"{PATH}/{id}/stop")
    again = await visitor.post(f"{PATH}/{id}/stop")
    odd = await visitor.post(f"{PATH}/x/stop")

    for said in ("7 of 20", "Stopped", "stopped by ana", "next would be Fri 20 Mar 01:30:00 UTC"):
        assert said in stopped.text
    assert (again.status, odd.status) == (200, 200)
    lines = await admin.database.pool.fetch(AUDIT)
    assert [line["result"] for line in lines] == ["ok", "ok", "conflict", "conflict"]


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_who_may_not_edit_may_not_backfill(admin: Admin, role: str) -> None:
    await seed(admin.database)
    ana, other = await admin.signed_in(), await admin.signed_in("otto", role)
    form = (await ask(ana)).fields()
    await begin(ana)
    id = await admin.database.pool.fetchval("SELECT id FROM qj_backfills")
    shown = await other.get("/schedules/nightly")

    answers = [
        await other.get(PATH),
        await other.post(PATH, form | {"csrf_token": other.csrf}),
        await other.post(f"{PATH}/{id}/stop"),
    ]

    assert [page.status for page in answers] == [403] * 3
    assert "0 of 20" in shown.text
    assert "/backfill" not in shown.html
    assert await admin.database.pool.fetchval("SELECT state FROM qj_backfills") == "running"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("to", "2026-03-19T00:00", "the range ends before it begins"),
        ("to", "2026-03-20T00:00", "the range ends before it begins"),
        ("to", "2999-01-01T00:00", "lies in the future"),
        ("to", "2026-03-20T01:00", "no run in this range"),
        ("to", "soon", "give a time"),
        ("from", "", "give a time from 2000 on"),
        ("from", "1999-12-31T23:59", "give a time from 2000 on"),
        ("from", "0001-01-01T00:00+05:00", "give a time from 2000 on"),
        ("per_minute", "0", "from 1 to 6000"),
        ("per_minute", "6001", "from 1 to 6000"),
        ("per_minute", "1.5", "from 1 to 6000"),
        ("reason", " ", "say why"),
    ],
)  # fmt: skip
async def test_what_cannot_be_backfilled_is_said_by_its_field(
    admin: Admin, field: str, value: str, said: str
) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    form = (await ask(visitor)).fields()

    asked = await ask(visitor, **{field: value})
    sent = await visitor.post(PATH, form | {field: value})

    assert (asked.status, sent.status) == (422, 422)
    for page in (asked, sent):
        assert said in unescape(page.html)
        assert "Start backfill" not in page.text
    assert await admin.database.pool.fetchval(ROWS) == 0


async def test_too_many_ticks_are_refused(admin: Admin) -> None:
    await seed(admin.database)
    await admin.database.pool.execute("UPDATE qj_schedules SET cron = '* * * * * *'")
    visitor = await admin.signed_in()

    page = await ask(visitor)

    assert page.status == 422
    assert "more than 100000 ticks" in page.text


async def test_a_schedule_that_cannot_be_read_is_not_backfilled(admin: Admin) -> None:
    await seed(admin.database)
    await admin.database.pool.execute("UPDATE qj_schedules SET timezone = 'Nowhere'")
    visitor = await admin.signed_in()

    page = await ask(visitor)

    assert page.status == 422
    assert "the schedule cannot be read" in page.text


async def test_the_form_asks_for_the_last_day_at_first(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    page = await visitor.get(PATH)

    fields = page.fields()

    assert "Start backfill" not in page.text
    dry = await visitor.get(f"{PATH}?{urlencode(fields | {'reason': 'x'})}")
    assert "1 job" in dry.text
