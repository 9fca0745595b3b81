"""Schedules edited in the admin: checked, by one at a time, each save a version."""

import asyncio
import json
import re
from datetime import timedelta
from html import unescape

import pytest

from tests.admin.conftest import Admin
from tests.admin.schedules import edit, seed

LEAD = re.compile(r'class="lead">([^<]+)')
SECRETS = {"n": 1, "api_token": "s3cr3t-1", "account": "s3cr3t-2", "url": "db://u:s3cr3t-3@h/x"}


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


async def test_what_the_job_hides_is_on_no_page(admin: Admin) -> None:
    args: dict[str, object] = {"account": "s3cr3t"}
    await seed(admin.database, args)
    await admin.database.pool.execute("UPDATE qj_schedules SET args = args || '{\"n\": 1}'")
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, args, meta) VALUES ('count', $1, $2)",
        args,
        {"cron_name": "nightly", "result": args},
    )
    visitor = await admin.signed_in()
    paths = ("/jobs", "/jobs/1", "/schedules", "/schedules/nightly", "/schedules/nightly/restore?version=1",
             "/schedules/nightly/edit", "/schedules/nightly/run", "/catalogue")  # fmt: skip

    pages = {path: await visitor.get(path) for path in paths}

    assert {page.status for page in pages.values()} == {200}
    assert "Version 2" in pages["/schedules/nightly"].text
    assert not [path for path, page in pages.items() if "s3cr3t" in page.html]


async def test_an_edit_that_was_too_late_leaves_no_secret_in_the_audit(admin: Admin) -> None:
    await seed(admin.database)
    visitor = await admin.signed_in()
    form = await edit(visitor, args='{"password": "s3cr3t"}')
    await admin.database.pool.execute("UPDATE qj_schedules SET description = 'Other words.'")

    assert (await visitor.post("/schedules/nightly/edit", form)).status == 409
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
