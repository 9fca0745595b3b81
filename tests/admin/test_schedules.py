"""Schedules in the admin: shown, paused, skipped, made, deleted."""

from datetime import timedelta

import pytest

from tests.admin.conftest import Admin
from tests.admin.schedules import seed


async def test_the_list_says_what_a_schedule_means(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()

    text = (await visitor.get("/schedules")).text

    for said in ("nightly", "Count the stars.", "At 02:30 every day", "30 2 * * *", "Europe/Prague",
                 "never ran", "No scheduler leads"):  # fmt: skip
        assert said in text


@pytest.mark.parametrize(
    ("query", "found"),
    [("q=stars", True), ("q=NIGHT", True), ("q=%25", False), ("state=paused", False),
     ("state=active", True), ("state=nonsense", True), ("page=abc", True), ("page=999999", False)],
)  # fmt: skip
async def test_the_list_can_be_searched(admin: Admin, query: str, found: bool) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()

    page = await visitor.get(f"/schedules?{query}")

    assert page.status == 200
    assert ("/schedules/nightly" in page.html) is found


async def test_two_schedules_of_one_job_have_each_their_own_runs(admin: Admin) -> None:
    await seed(admin.database)
    await admin.database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron) VALUES ('hourly', 'count', '0 * * * *')"
    )
    ids = await admin.database.pool.fetch(
        "INSERT INTO oban_jobs (worker, state, meta)"
        " SELECT 'count', state::oban_job_state, jsonb_build_object('cron_name', name)"
        " FROM (VALUES ('hourly', 'completed'), ('nightly', 'discarded')) AS j (name, state) RETURNING id"
    )
    visitor = await admin.signed_in()

    shown = {name: await visitor.get(f"/schedules/{name}") for name in ("hourly", "nightly")}

    for page, own, other in zip(shown.values(), ids, reversed(ids), strict=True):
        assert f'"/jobs/{own["id"]}"' in page.html
        assert f'"/jobs/{other["id"]}"' not in page.html


async def test_the_preview_is_the_schedulers_own(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    await visitor.get("/schedules")

    page = await visitor.post(
        "/preview", {"cron": "0 0 13 * 5", "timezone": "Etc/UTC", "dst": "once"}
    )
    wrong = await visitor.post("/preview", {"cron": "* * *", "timezone": "Etc/UTC", "dst": "once"})

    assert "At 00:00 on day 13 of the month or on Friday" in page.text
    assert page.html.count("<li>") == 10
    assert "3 fields: give five" in wrong.text


async def test_pause_needs_a_reason_and_resume_ends_it(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in("olga", "operator")
    await visitor.get("/schedules/nightly/pause")

    refused = await visitor.post("/schedules/nightly/pause", {"reason": " ", "hours": ""})
    odd = await visitor.post("/schedules/nightly/pause", {"reason": "x", "hours": "soon"})
    paused = await visitor.post("/schedules/nightly/pause", {"reason": "disk full", "hours": "2"})

    assert (refused.status, odd.status) == (422, 422)
    for said in ("Paused", "disk full", "olga", "until in 1 h 59 m", "None while it is paused"):
        assert said in paused.text
    assert await admin.database.pool.fetchval(
        "SELECT resume_at BETWEEN now() + '119 m' AND now() + '2 h' FROM qj_schedules"
    )
    resumed = await visitor.post("/schedules/nightly/resume")
    assert "disk full" in resumed.text
    assert await admin.database.pool.fetchval("SELECT paused_at FROM qj_schedules") is None


async def test_a_schedule_is_made_for_a_job_of_the_catalogue(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    form = (await visitor.get("/new-schedule?worker=count")).fields()

    made = await visitor.post("/new-schedule", form | {"name": "hourly", "cron": "0 * * * *"})
    taken = await visitor.post("/new-schedule", form | {"name": "hourly"})
    unknown = await visitor.post("/new-schedule", form | {"name": "other", "worker": "nobody"})
    odd = await visitor.post("/new-schedule", form | {"name": "a/../b"})

    assert form["queue"] == "sums"
    assert made.path == "/schedules/hourly"
    assert [page.status for page in (taken, unknown, odd)] == [422] * 3
    assert "has this name already" in taken.text
    row = await admin.database.row(
        "SELECT worker, queue, managed_by, updated_by, catchup_window FROM qj_schedules WHERE name = 'hourly'"
    )
    assert tuple(row) == ("count", "sums", "ui", "ana", timedelta(hours=24))


async def test_a_job_type_that_no_schedule_may_be_like_has_a_form_that_says_so(
    admin: Admin,
) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO qj_job_types (worker, registered_by, priority, max_attempts, tags)
        VALUES ('odd', 'w', 12, 5000, ARRAY[repeat('x', 256)])
        """
    )
    visitor = await admin.signed_in()
    form = (await visitor.get("/new-schedule?worker=odd")).fields()

    told = await visitor.post("/new-schedule", form | {"name": "odd"})

    assert (form["priority"], form["max_attempts"]) == ("12", "5000")
    assert (told.status, "at most 255 characters" in told.text) == (422, True)


async def test_a_deleted_schedule_is_gone_and_its_history_stays(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    await visitor.get("/schedules/nightly/delete")

    page = await visitor.post("/schedules/nightly/delete")

    assert "No schedules yet" in page.text
    assert (await visitor.get("/schedules/nightly")).status == 404
    assert await admin.database.pool.fetchval("SELECT count(*) FROM qj_schedule_versions") == 1


@pytest.mark.parametrize("cron", ["never", "0 0 * * *"])
async def test_a_schedule_that_another_program_spoilt_is_shown(admin: Admin, cron: str) -> None:
    await seed(admin.database)
    await admin.database.pool.execute(
        "UPDATE qj_schedules SET cron = $1, timezone = 'Nowhere'", cron
    )
    visitor = await admin.signed_in()

    for path in ("/schedules", "/schedules/nightly", "/schedules/nightly/edit"):
        assert (await visitor.get(path)).status == 200
    assert "It cannot be read" in (await visitor.get("/schedules/nightly")).text


async def test_ticks_that_made_no_job_say_why(admin: Admin) -> None:
    await seed(admin.database)
    await admin.database.pool.execute(
        "INSERT INTO qj_ticks (schedule_id, tick_at, until_at, ticks, outcome, reason, version)"
        " SELECT id, '2026-01-01 00:00Z', '2026-01-02 00:00Z', 24, 'skipped_window', 'older than its window', 1"
        " FROM qj_schedules"
    )
    visitor = await admin.signed_in()

    text = (await visitor.get("/schedules/nightly")).text

    assert "Missed, too long ago older than its window" in text
    assert "24 ticks" in text


async def test_the_next_run_alone_is_skipped(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in("olga", "operator")
    await visitor.get("/account")
    nothing = await visitor.post("/schedules/nightly/skip")
    await admin.database.pool.execute(
        "UPDATE qj_schedules SET next_run_at = now() + interval '1 h'"
    )

    page = await visitor.post("/schedules/nightly/skip")

    assert nothing.status == 409
    assert "olga skips the run of" in page.text
    skips = "SELECT skip_tick_at = next_run_at FROM qj_schedules"
    assert await admin.database.pool.fetchval(skips)
    undone = await visitor.post("/schedules/nightly/unskip")
    assert "Skip next run" in undone.text
    assert await admin.database.pool.fetchval(skips) is None


async def test_all_schedules_are_frozen_and_let_go(admin: Admin) -> None:
    await seed(admin.database)
    visitor, operator = await admin.signed_in(), await admin.signed_in("olga", "operator")
    await visitor.get("/freeze")

    refused = await visitor.post("/freeze", {"reason": ""})
    frozen = await visitor.post("/freeze", {"reason": "fire"})

    assert refused.status == 422
    assert "All schedules are frozen, by ana" in frozen.text
    assert "All schedules are frozen" in (await operator.get("/cluster")).text
    assert (await operator.post("/thaw")).status == 403
    assert "frozen" not in (await visitor.post("/thaw")).text
    assert (
        await admin.database.pool.fetchval(
            "SELECT count(*) FROM qj_audit WHERE action LIKE '%freeze%' AND result = 'ok'"
        )
        == 2
    )


async def test_an_open_alert_is_shown_on_every_page(admin: Admin) -> None:
    await seed(admin.database)
    await admin.database.pool.execute(
        "INSERT INTO qj_alerts (schedule_id, schedule, tick_at, kind, message)"
        " SELECT id, name, now(), 'uncompleted', 'nightly: no run has completed' FROM qj_schedules"
    )
    visitor = await admin.signed_in()

    assert "nightly: no run has completed" in (await visitor.get("/jobs")).text
    await admin.database.pool.execute(
        "UPDATE qj_alerts SET resolved_at = now(), resolution = 'done'"
    )
    assert "no run has completed" not in (await visitor.get("/jobs")).text
