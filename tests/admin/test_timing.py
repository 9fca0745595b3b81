"""Jitter, first and last run, blackouts and calendars in the pages."""

from datetime import UTC, datetime, timedelta

from tests.admin.conftest import Admin
from tests.admin.schedules import edit, seed

CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
DTSTART;VALUE=DATE:20201225
RRULE:FREQ=YEARLY
SUMMARY:Christmas Day
END:VEVENT
END:VCALENDAR
"""


async def test_when_a_schedule_runs_is_kept_and_said_in_words(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    await visitor.get("/new-calendar")
    await visitor.post("/calendars", {"name": "bank", "days": "2026-12-25 Christmas"})
    timing = {
        "jitter": "10m",
        "start_at": "2020-01-01 08:00",
        "end_at": "2199-01-01 00:00",
        "blackouts": "sat,sun\n22:00-02:00",
        "calendars": "bank",
    }

    page = await visitor.post("/schedules/nightly/edit", await edit(visitor, **timing))
    kept = (await visitor.get("/schedules/nightly/edit")).fields()

    for said in (
        "from 2020-01-01 08:00",
        "until 2199-01-01",
        "except sat,sun and 22:00-02:00",
        "except on the days of bank",
    ):
        assert said in page.text
    assert {name: kept[name] for name in timing} == timing
    row = await admin.database.row(
        "SELECT jitter, start_at, blackouts, calendars FROM qj_schedules"
    )
    assert tuple(row) == (
        timedelta(minutes=10),
        datetime(2020, 1, 1, 7, tzinfo=UTC),
        ["sat,sun", "22:00-02:00"],
        ["bank"],
    )
    restored = (await visitor.get("/schedules/nightly/restore?version=2")).fields()
    assert {name: restored[name] for name in timing} == timing


async def test_an_end_before_the_start_is_said_by_its_field(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    span = {"start_at": "2030-01-02", "end_at": "2030-01-01"}

    page = await visitor.post("/schedules/nightly/edit", await edit(visitor, **span))

    assert page.status == 422
    assert "before the start" in page.text


async def test_the_preview_says_which_ticks_make_no_job(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    await visitor.get("/schedules/nightly/edit")
    typed = {"cron": "0 9 * * *", "timezone": "Etc/UTC", "dst": "once", "name": "nightly"}

    some = await visitor.post("/preview", {**typed, "blackouts": "sat,sun"})
    none = await visitor.post("/preview", {**typed, "blackouts": "mon-sun"})
    wrong = await visitor.post("/preview", {**typed, "blackouts": "whenever"})

    assert some.text.count("no job: in the window sat,sun") in (2, 3, 4)
    assert "None of the next 10 ticks makes a job" in none.text
    assert "Blackouts: 'whenever'" in wrong.text


async def test_an_ended_schedule_says_so(admin: Admin) -> None:
    await seed(admin.database)
    await admin.database.pool.execute("UPDATE qj_schedules SET end_at = '2026-01-01T00:00Z'")
    visitor = await admin.signed_in()

    assert "Ended" in (await visitor.get("/schedules")).text


async def test_a_calendar_is_taken_from_icalendar_edited_and_deleted(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    await visitor.get("/new-calendar")

    listed = await visitor.post("/calendars", {"name": "bank {holidays}", "days": CALENDAR})
    shown = await visitor.get("/calendars/bank%20%7Bholidays%7D")
    again = await visitor.post("/calendars", {"name": "bank {holidays}", "days": "2026-01-01"})
    edited = await visitor.post(
        "/calendars", {"name": "bank {holidays}", "days": "2026-01-01 New Year", "stored": "yes"}
    )

    assert "bank {holidays}" in listed.text
    assert "2026-12-25 Christmas Day" in shown.text
    assert again.status == 409
    assert "has this name already" in again.text
    assert edited.path == "/calendars"
    await admin.database.pool.execute(
        "UPDATE qj_schedules SET calendars = ARRAY['bank {holidays}']"
    )
    used = await visitor.post("/calendars/bank%20%7Bholidays%7D/delete")
    await admin.database.pool.execute("UPDATE qj_schedules SET calendars = '{}'")
    await visitor.get("/calendars")
    gone = await visitor.post("/calendars/bank%20%7Bholidays%7D/delete")

    assert used.status == 409
    assert "nightly" in used.text
    assert "There are no calendars" in gone.text
    assert await admin.database.pool.fetchval("SELECT count(*) FROM qj_calendars") == 0


async def test_a_calendar_that_another_has_saved_meanwhile_is_not_overwritten(admin: Admin) -> None:
    ana, ben = await admin.signed_in("ana"), await admin.signed_in("ben")
    await ana.get("/new-calendar")
    await ana.post("/calendars", {"name": "bank", "days": "2026-12-25"})
    shown = [await each.get("/calendars/bank") for each in (ana, ben)]
    typed = [
        {"name": "bank", "stored": "yes", "seen": page.field("seen"), "days": f"2026-12-2{n}"}
        for n, page in enumerate(shown)
    ]
    await ana.post("/calendars", typed[0])

    late = await ben.post("/calendars", typed[1])
    kept = await admin.database.pool.fetchval("SELECT days FROM qj_calendars")
    again = await ben.post("/calendars", typed[1] | {"seen": late.field("seen")})
    await admin.database.pool.execute("DELETE FROM qj_calendars")
    gone = await ana.post("/calendars", typed[0])

    assert late.status == 409
    assert "someone saved other days meanwhile" in late.text
    assert kept == {"2026-12-20": ""}
    assert again.path == "/calendars"
    assert gone.status == 409
    assert "deleted meanwhile" in gone.text


async def test_what_is_no_calendar_is_said_by_its_field(admin: Admin) -> None:
    visitor = await admin.signed_in()
    await visitor.get("/new-calendar")
    for name, days, said in (
        ("", "2026-01-01", "names no calendar"),
        ("x", "", "give a day on each line"),
        ("x", "2026-01-01\n31.12.2026 Eve", "line 2: '31.12.2026' is no date"),
        ("x", "BEGIN:VCALENDAR\nnonsense", "line 2"),
    ):
        page = await visitor.post("/calendars", {"name": name, "days": days})
        assert (page.status, said in page.text) == (422, True), (said, page.text)
