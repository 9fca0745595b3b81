"""Jobs in the admin: run now, listed to the end of history, retried, cancelled."""

import asyncio
import re
import secrets
from contextlib import AsyncExitStack

import pytest

from quarterjack import Unique
from quarterjack_admin.pages import runs
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
MANY = """
INSERT INTO oban_jobs (worker, state, queue, inserted_at, scheduled_at, attempted_at, completed_at, attempt)
SELECT 'count', $1::text::oban_job_state, 'sums', t, t, t, CASE WHEN $1 = 'completed' THEN t END, 1
FROM generate_series(1, $2::integer), (SELECT timestamp '2026-01-01 00:00:00' AS t) AS same
"""
EVERY = (
    "available",
    "suspended",
    "scheduled",
    "executing",
    "retryable",
    "completed",
    "discarded",
    "cancelled",
)


async def test_run_now_makes_the_schedules_job(admin: Admin) -> None:
    await admin.database.pool.execute(SCHEDULE, None)
    visitor = await admin.signed_in("olga", "operator")
    form = (await visitor.get("/schedules/nightly/run")).fields()

    page = await visitor.post("/schedules/nightly/run", form)

    job = await admin.database.row("SELECT * FROM oban_jobs")
    assert page.path == f"/jobs/{job['id']}?from=run"
    assert "was enqueued" in page.text
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


@pytest.mark.parametrize("state", ["completed", "available", "executing", None])
async def test_paging_reaches_every_job_and_comes_back(admin: Admin, state: str | None) -> None:
    await admin.database.pool.execute(MANY, state or "discarded", 130)
    visitor = await admin.signed_in()
    path = f"/jobs?state={state}" if state else "/jobs"

    down = await _walk(visitor, path, "next")
    up = await _walk(visitor, down[-1][0], "prev")

    ids = [id for _, found in down for id in found]
    assert len(ids) == len(set(ids)) == 130
    assert sorted(ids) == sorted({id for _, found in up for id in found})


@pytest.mark.parametrize("state", ["", "&state=available", "&state=discarded"])
async def test_a_search_goes_on_from_window_to_window(
    admin: Admin, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WINDOW", 10)
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, state) SELECT CASE WHEN n % 9 = 0 THEN 'rare' ELSE 'count' END,"
        " (CASE WHEN n % 2 = 0 THEN 'available' ELSE 'discarded' END)::oban_job_state"
        " FROM generate_series(1, 100) AS n"
    )
    visitor = await admin.signed_in()

    pages = await _walk(visitor, f"/jobs?worker=rare{state}", "next")

    wanted = [n for n in range(9, 100, 9) if not state or (n % 2 == 0) is ("available" in state)]
    assert sorted(int(id) for _, found in pages for id in found) == wanted
    assert len(pages) > 10


async def _walk(visitor: Visitor, path: str, way: str) -> list[tuple[str, list[str]]]:
    pages = []
    while path:
        page = await visitor.get(path)
        pages.append((path, re.findall(r'id="job-(\d+)"', page.html)))
        follows = re.search(rf'href="([^"]+)" rel="{way}"', page.html)
        path = follows[1].replace("&amp;", "&") if follows else ""
    return pages


async def test_counts_follow_the_filter(admin: Admin) -> None:
    await admin.database.pool.execute(MANY, "completed", 3)
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, queue) VALUES ('other', 'mail')"
    )
    visitor = await admin.signed_in()

    text = (await visitor.get("/jobs?queue=mail")).text

    assert "Completed 0" in text
    assert "Available 1" in text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("state=nonsense", 200),
        ("after=x", 200),
        ("before=~", 200),
        ("after=2026-13-99~1", 200),
        ("before=99999999999999999999", 200),
        ("queue=%F0%9F%98%80", 200),
        ("after=0001-01-01T00:00:00%2B00:00~1&state=available", 200),
        ("worker=%00", 400),
    ],
)
async def test_odd_addresses_are_answered(admin: Admin, query: str, status: int) -> None:
    await admin.database.pool.execute(MANY, "completed", 1)
    visitor = await admin.signed_in()

    assert (await visitor.get(f"/jobs?{query}")).status == status


async def test_what_other_programs_wrote_is_shown(admin: Admin) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, args, meta, tags, errors, state, scheduled_at, attempted_by) VALUES
          ('<b>bold</b>', '[1]', '"text"', NULL, ARRAY['7', '{"error": 5}', '{"attempt": 1}']::jsonb[], 'retryable',
           'infinity', '{}'),
          ('x', 'null', NULL, '{}', ARRAY['{"error": "password=s3cr3t at db://u:s3cr3t@h"}']::jsonb[], 'discarded',
           '-infinity', ARRAY[NULL, 'not-a-uuid']),
          ('y', $1::text::jsonb, '{"cron_name": 5, "traceparent": [], "warning": {}}', '{}', '{}', 'executing',
           '9999-12-31 23:59:59', '{n,p}'),
          ('z', '{}', '{"cron_name": "nightly"}', '{}', '{}', 'scheduled', '20000-01-01', '{}'),
          ('z', '{}', '{}', '{}', '{}', 'available', '0044-03-15 BC', '{}')
        """,
        '{"a":' * 2_000 + "9" * 5_000 + "}" * 2_000,
    )
    visitor = await admin.signed_in()
    pages = [
        await visitor.get(path)
        for path in (
            "/jobs",
            "/jobs?state=retryable",
            "/queues",
            *(f"/jobs/{n}" for n in range(1, 6)),
        )
    ]

    assert [page.status for page in pages] == [200] * 8
    assert not [page for page in pages if "<b>bold" in page.html or "s3cr3t" in page.html]


async def test_a_job_shows_its_attempts_and_hides_secrets(admin: Admin) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, args, errors, state, attempt, attempted_at, discarded_at) VALUES
          ('count', '{"token": "s3cr3t", "n": 123456789012345678901234567890}',
           ARRAY['{"attempt": 1, "at": "2026-01-01T00:00:00Z", "error": "ValueError: one\\n\\nTraceback\\n line"}',
                 '{"attempt": 2, "at": "2026-01-01T00:01:00Z", "error": "ValueError: two"}']::jsonb[],
           'discarded', 2, now(), now())
        """
    )
    visitor = await admin.signed_in()

    page = await visitor.get("/jobs/1")

    assert page.text.index("ValueError: two") < page.text.index("ValueError: one")
    assert "123456789012345678901234567890" in page.html
    assert "s3cr3t" not in page.html
    assert (await visitor.get("/jobs/2")).status == 404
    assert (await visitor.get("/jobs/99999999999999999999999")).status == 404


@pytest.mark.parametrize("state", EVERY)
async def test_retry_and_cancel_by_state(admin: Admin, state: str) -> None:
    retriable = state not in ("available", "executing")
    cancellable = state not in ("completed", "discarded", "cancelled")
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, state, attempt, max_attempts)"
        " SELECT 'count', $1::text::oban_job_state, 3, 3 FROM generate_series(1, 2)",
        state,
    )
    visitor = await admin.signed_in("olga", "operator")
    page = await visitor.get("/jobs/1")

    assert ("/jobs/1/retry" in page.html) is retriable
    assert ("/jobs/1/cancel" in page.html) is cancellable
    retried = await visitor.post("/jobs/1/retry", {"state": state})
    cancelled = await visitor.post("/jobs/2/cancel", {"state": state})
    assert retried.status == (200 if retriable else 409)
    assert cancelled.status == (200 if cancellable else 409)
    rows = await admin.database.pool.fetch(
        "SELECT state::text, attempt < max_attempts AS left FROM oban_jobs ORDER BY id"
    )
    assert rows[0]["state"] == ("available" if retriable else state)
    assert rows[0]["left"] or not retriable
    kept = state if state == "executing" or not cancellable else "cancelled"
    assert rows[1]["state"] == kept


async def test_a_job_that_changed_meanwhile_is_left_alone(admin: Admin) -> None:
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, state) VALUES ('count', 'completed')"
    )
    visitor = await admin.signed_in()
    await visitor.get("/jobs/1")

    answer = await visitor.post("/jobs/1/cancel", {"state": "available"})

    assert answer.status == 409
    assert "Job 1 is completed by now" in answer.text


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
