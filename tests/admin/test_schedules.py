"""Schedules in the admin: shown, edited by one at a time, paused, made, deleted."""

import asyncio
import json
import re
from datetime import timedelta
from html import unescape

import pytest

from tests.admin.conftest import Admin, Visitor
from tests.conftest import TestDatabase

SCHEDULE = """
INSERT INTO qj_schedules (name, worker, cron, timezone, args, description)
VALUES ('nightly', 'count', '30 2 * * *', 'Europe/Prague', $1, 'Count the stars.')
"""
TYPE = """
INSERT INTO qj_job_types (worker, args_schema, redacted, registered_by, queue)
VALUES ('count', $1, '{account}', 'worker-1', 'sums')
"""
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": True}
LEAD = re.compile(r'class="lead">([^<]+)')
SECRETS = {"n": 1, "api_token": "s3cr3t-1", "account": "s3cr3t-2", "url": "db://u:s3cr3t-3@h/x"}


async def seed(database: TestDatabase, args: dict[str, object] | None = None) -> None:
    await database.pool.execute(SCHEDULE, args or {})
    await database.pool.execute(TYPE, SCHEMA)


async def edit(visitor: Visitor, **changes: str) -> dict[str, str]:
    return (await visitor.get("/schedules/nightly/edit")).fields() | changes


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


async def test_a_save_makes_a_version_with_author_and_reason(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()

    saved = await visitor.post(
        "/schedules/nightly/edit", await edit(visitor, cron="*/5 * * * *", reason="sooner")
    )

    assert saved.path == "/schedules/nightly"
    for said in ("Every 5 minutes", "Version 2, saved by ana", "waiting for the leader", "“sooner”",
                 "cron 30 2 * * * */5 * * * *"):  # fmt: skip
        assert said in saved.text
    row = await admin.database.row(
        "SELECT s.cron, v.author, v.reason, a.action, a.after ->> 'cron' AS after FROM qj_schedules AS s"
        " JOIN qj_schedule_versions AS v ON v.schedule_id = s.id AND v.version = 2, qj_audit AS a"
        " WHERE a.action = 'edit schedule'"
    )
    assert tuple(row) == ("*/5 * * * *", "ana", "sooner", "edit schedule", "*/5 * * * *")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cron", "61 * * * *", "'61' in the minute field"),
        ("cron", "0 0 30 2 *", "names a date that does not exist"),
        ("cron", "<b>x</b> * * * *", "'<b>x</b>' in the minute field"),
        ("timezone", "Mars/Olympus", "is no time zone"),
        ("args", "[1]", "give an object"),
        ("args", '{"n": 1, "n": 2}', "a key is given twice"),
        ("args", '{"n": "one"}', "n: 'one' is not of type 'integer'"),
        ("args", '{"x": NaN}', "cannot be written as JSON"),
        ("args", '{"x": "\\u0000"}', "NUL"),
        ("args", '{"x": "\\ud800"}', "surrogate"),
        ("args", '{"a":' * 20_000, "nested too deeply"),
        ("args", "{", "not JSON"),
        ("priority", "11", "less than or equal to 9"),
        ("max_attempts", "x", "valid integer"),
        ("catchup_window", "nan", "no length of time"),
        ("catchup", "sometimes", "skip"),
        ("queue", "", "at least 1 character"),
        ("timeout", "0", "greater than 0"),
        ("max_failures", "-1", "greater than or equal to 1"),
        ("expected_within", "soon", "no length of time"),
        ("jitter", "2 days", "less than or equal to"),
        ("start_at", "tomorrow", "valid datetime"),
        ("blackouts", "sometimes", "is no day"),
        ("calendars", "gone", "there is no calendar 'gone' any more"),
    ],
)  # fmt: skip
async def test_what_cannot_be_saved_is_said_by_its_field(
    admin: Admin, field: str, value: str, said: str
) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()

    refused = await visitor.post("/schedules/nightly/edit", await edit(visitor, **{field: value}))

    assert refused.status == 422
    assert "Nothing was saved" in refused.text
    assert said in unescape(refused.html)
    assert "<b>x" not in refused.html
    assert await admin.database.pool.fetchval("SELECT version FROM qj_schedules") == 1


async def test_a_second_edit_of_the_same_version_is_a_conflict(admin: Admin) -> None:
    await seed(admin.database)
    ana, ben = await admin.signed_in("ana"), await admin.signed_in("ben")
    mine, theirs = await edit(ana, cron="1 * * * *"), await edit(ben, cron="2 * * * *")
    await ben.post("/schedules/nightly/edit", theirs)

    conflict = await ana.post("/schedules/nightly/edit", mine)

    assert conflict.status == 409
    for said in ("ben saved version 2", "30 2 * * * 2 * * * * 1 * * * *"):
        assert said in conflict.text
    assert await admin.database.pool.fetchval("SELECT cron FROM qj_schedules") == "2 * * * *"
    on_top = await ana.post("/schedules/nightly/edit", conflict.fields())
    assert on_top.path == "/schedules/nightly"
    assert await admin.database.pool.fetchval("SELECT cron FROM qj_schedules") == "1 * * * *"


async def test_of_many_edits_at_once_one_is_saved(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    form = await edit(visitor)

    answers = await asyncio.gather(
        *(
            visitor.post("/schedules/nightly/edit", form | {"cron": f"{n} * * * *"})
            for n in range(8)
        )
    )

    assert sorted(page.status for page in answers) == [200] + [409] * 7
    assert await admin.database.pool.fetchval("SELECT version FROM qj_schedules") == 2


async def test_secrets_are_neither_shown_nor_lost(admin: Admin) -> None:
    await seed(admin.database, SECRETS)
    visitor = await admin.signed_in()
    form = await edit(visitor, description="Other words.")
    pages = [await visitor.get(f"/schedules/nightly{verb}") for verb in ("", "/edit", "/run")]

    await visitor.post("/schedules/nightly/edit", form)

    assert not [page for page in pages if "s3cr3t" in page.html]
    assert "hidden" in form["args"]
    stored = await admin.database.row("SELECT args, description FROM qj_schedules")
    assert tuple(stored) == (SECRETS, "Other words.")
    assert "s3cr3t" not in await admin.database.pool.fetchval(
        "SELECT string_agg(a::text, '') FROM qj_audit AS a"
    )


async def test_a_hidden_secret_can_be_replaced(admin: Admin) -> None:
    await seed(admin.database, SECRETS)
    visitor = await admin.signed_in()
    form = await edit(visitor)
    args = json.loads(form["args"]) | {"api_token": "fresh"}

    await visitor.post("/schedules/nightly/edit", form | {"args": json.dumps(args)})

    stored = await admin.database.pool.fetchval("SELECT args FROM qj_schedules")
    assert stored == SECRETS | {"api_token": "fresh"}


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


async def test_a_version_is_restored_as_a_new_one(admin: Admin) -> None:
    await seed(admin.database, SECRETS)
    visitor = await admin.signed_in()
    changes = {"cron": "1 1 1 1 *", "tags": "a, b", "catchup_window": "36h", "priority": "3"}
    await visitor.post("/schedules/nightly/edit", await edit(visitor, **changes))
    form = (await visitor.get("/schedules/nightly/restore?version=1")).fields()

    page = await visitor.post("/schedules/nightly/edit", form)

    assert form["version"] == "2"
    assert "“Restore version 1”" in page.text
    row = await admin.database.row(
        "SELECT version, cron, args, tags, catchup_window, priority FROM qj_schedules"
    )
    assert tuple(row) == (3, "30 2 * * *", SECRETS, [], timedelta(hours=24), 0)
    assert (await visitor.get("/schedules/nightly/restore?version=9")).status == 404


async def test_every_policy_is_kept_and_said_in_words(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    policies = {
        "overlap": "cancel_previous",
        "timeout": "1m 30s",
        "max_failures": "3",
        "expected_within": "1h 30m",
    }

    page = await visitor.post("/schedules/nightly/edit", await edit(visitor, **policies))
    kept = (await visitor.get("/schedules/nightly/edit")).fields()

    for said in (
        "the next tick cancels it",
        "1 m 30 s",
        "3 failed runs in a row",
        "1 h 30 m of each tick",
    ):
        assert said in page.text
    assert {name: kept[name] for name in policies} == policies
    await visitor.post(
        "/schedules/nightly/edit", kept | {name: "" for name in policies if name != "overlap"}
    )
    row = await admin.database.row(
        "SELECT timeout, max_failures, expected_within FROM qj_schedules"
    )
    assert tuple(row) == (None, None, None)
    restored = (await visitor.get("/schedules/nightly/restore?version=2")).fields()
    assert {name: restored[name] for name in policies} == policies


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


@pytest.mark.parametrize(
    ("cron", "said"),
    [("every 90 seconds", "Every 90 seconds"), ("H H * * *", "every day")],
)
async def test_intervals_and_hashed_numbers_are_schedules_too(
    admin: Admin, cron: str, said: str
) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    typed = {"cron": cron, "timezone": "Etc/UTC", "dst": "once", "name": "nightly"}
    await visitor.get("/schedules/nightly/edit")
    preview = await visitor.post("/preview", typed)

    saved = await visitor.post("/schedules/nightly/edit", await edit(visitor, cron=cron))

    assert said in preview.text
    assert saved.path == "/schedules/nightly"
    assert LEAD.findall(preview.html) == LEAD.findall(saved.html)
    assert await admin.database.pool.fetchval("SELECT cron FROM qj_schedules") == cron


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
