"""Jobs run now from the admin: once for each form, checked, no more of them than is good."""

import asyncio
import secrets
from contextlib import AsyncExitStack

import pytest

from quarterjack import Unique
from tests.admin.conftest import Admin, Visitor, serve
from tests.conftest import TestDatabase
from tests.waiting import until

SCHEDULE = """
INSERT INTO qj_schedules (name, worker, cron, queue, args, tags, uniqueness)
VALUES ('nightly', 'count', '0 3 * * *', 'sums', '{"n": 7}', '{stars}', $1)
"""
TYPE = """
INSERT INTO qj_job_types (worker, args_schema, registered_by, queue)
VALUES ('count', '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}', 'w', 'sums')
"""


async def test_run_now_makes_the_schedules_job(admin: Admin) -> None:
    await admin.database.pool.execute(SCHEDULE, None)
    visitor = await admin.signed_in("olga", "operator")
    form = (await visitor.get("/schedules/nightly/run")).fields()

    page = await visitor.post("/schedules/nightly/run", form)

    job = await admin.database.row("SELECT * FROM oban_jobs")
    assert page.path == f"/jobs/{job['id']}?from=run"
    assert "was enqueued" in page.text
    await admin.database.pool.execute(
        "UPDATE oban_jobs SET inserted_at = inserted_at - interval '2 minutes'"
    )
    assert "was enqueued" not in (await visitor.get(page.path)).text
    assert (job["worker"], job["queue"], job["args"], job["tags"]) == (
        "count",
        "sums",
        {"n": 7},
        ["stars"],
    )
    assert job["meta"]["trigger"] == "manual"
    assert job["meta"]["triggered_by"] == "olga"
    assert job["meta"]["cron_name"] == "nightly"
    assert await admin.database.pool.fetchval("SELECT count(*) FROM qj_ticks") == 0
    assert (
        await admin.database.pool.fetchval("SELECT actor FROM qj_audit WHERE action = 'run now'")
        == "olga"
    )


async def test_run_now_takes_other_arguments_and_keeps_hidden_ones(admin: Admin) -> None:
    await admin.database.pool.execute(TYPE)
    await admin.database.pool.execute(SCHEDULE, None)
    await admin.database.pool.execute(
        """UPDATE qj_schedules SET args = '{"n": 7, "token": "s3cr3t"}'"""
    )
    visitor = await admin.signed_in()
    form = (await visitor.get("/schedules/nightly/run")).fields()

    refused = await visitor.post("/schedules/nightly/run", form | {"args": '{"n": "x"}'})
    made = await visitor.post(
        "/schedules/nightly/run", form | {"args": form["args"].replace("7", "8")}
    )

    assert "s3cr3t" not in form["args"]
    assert refused.status == 422
    assert "n: 'x' is not of type 'integer'" in refused.text
    assert made.status == 200
    assert await admin.database.pool.fetchval("SELECT args FROM oban_jobs") == {
        "n": 8,
        "token": "s3cr3t",
    }
    assert await admin.database.pool.fetchval("SELECT version FROM qj_schedules") == 2


async def test_a_form_sent_many_times_makes_one_job(admin: Admin) -> None:
    await admin.database.pool.execute(SCHEDULE, None)
    visitor = await admin.signed_in()
    form = (await visitor.get("/schedules/nightly/run")).fields()

    pages = await asyncio.gather(*(visitor.post("/schedules/nightly/run", form) for _ in range(10)))

    assert len({page.path for page in pages}) == 1
    assert await admin.database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 1


async def test_a_unique_job_is_refused_unless_forced(admin: Admin) -> None:
    await admin.database.pool.execute(SCHEDULE, Unique(period=None, states="incomplete").to_json())
    visitor = await admin.signed_in()
    first = await _run(visitor)
    refused = await _run(visitor)
    forced = await _run(visitor, force="yes")

    assert (first.status, refused.status, forced.status) == (200, 409, 200)
    assert first.path.split("?")[0] in refused.html
    assert await admin.database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 2
    operator = await admin.signed_in("olga", "operator")
    assert (await _run(operator, force="yes")).status == 409


async def _run(visitor: Visitor, **more: str):  # type: ignore[no-untyped-def] # a Page
    form = (await visitor.get("/schedules/nightly/run")).fields()
    return await visitor.post("/schedules/nightly/run", form | more)


async def test_a_job_of_the_catalogue_runs_with_typed_args(admin: Admin) -> None:
    await admin.database.pool.execute(TYPE)
    visitor = await admin.signed_in()
    path = "/catalogue/run?worker=count"
    form = (await visitor.get(path)).fields()

    refused = await visitor.post(path, form | {"args": "{}"})
    made = await visitor.post(path, form | {"args": '{"n": 3}'})

    assert refused.status == 422
    assert "'n' is a required property" in refused.text
    assert made.path.startswith("/jobs/")
    assert await admin.database.pool.fetchval("SELECT args FROM oban_jobs") == {"n": 3}
    assert (await visitor.get("/catalogue/run?worker=nobody")).status == 404


async def test_acting_too_often_is_slowed_down(admin: Admin) -> None:
    visitor = await admin.signed_in()
    await visitor.get("/account")
    allowed = 0
    while allowed < 90:  # one more for each second that it takes
        answer = await visitor.post("/schedules/none/run", {"request_id": secrets.token_hex(4)})
        if answer.status == 429:
            break
        assert answer.status == 404
        allowed += 1

    assert 60 <= allowed < 90


async def test_a_redirect_after_an_action_is_no_failure(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERJACK_TELEMETRY", "on")
    await database.pool.execute(SCHEDULE, None)
    async with AsyncExitStack() as stack:
        visitor = await (await serve(database, stack)).signed_in()
        await _run(visitor)
        span = await until(
            lambda: database.pool.fetchrow(
                "SELECT status_code, status_message, trace_id FROM otel_traces"
                " WHERE name = 'POST /schedules/{name}/run'"
            )
        )

    assert span is not None
    assert (span["status_code"], span["status_message"]) == (1, "")
    assert span["trace_id"] in await database.pool.fetchval(
        "SELECT meta ->> 'traceparent' FROM oban_jobs"
    )
