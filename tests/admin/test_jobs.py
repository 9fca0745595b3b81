"""Jobs in the admin: listed to the end of history, shown whoever wrote them, retried, cancelled."""

import re

import pytest

from quarterjack import JobState
from quarterjack.queries.runs import counts_above
from quarterjack_admin.pages import runs
from tests.admin.conftest import Admin, Visitor
from tests.conftest import TestDatabase

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


async def test_a_job_that_ended_beyond_the_calendar_is_shown(admin: Admin) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO qj_schedules (name, worker, cron) VALUES ('nightly', 'w', '0 0 * * *');
        INSERT INTO oban_jobs
          (worker, meta, state, attempted_by, attempted_at, completed_at, cancelled_at, discarded_at)
        SELECT 'w', '{"cron_name": "nightly"}', state::oban_job_state, '{{a,b,c},{d,e,f}}', at, at, at, at
        FROM unnest('{executing,completed,cancelled,discarded}'::text[]) AS state,
          unnest('{infinity,-infinity,0044-03-15 BC,294000-01-01}'::timestamp[]) AS at
        """
    )
    visitor = await admin.signed_in()
    paths = ["/jobs", "/schedules", "/schedules/nightly", *(f"/jobs/{n}" for n in range(1, 17))]

    assert {path: (await visitor.get(path)).status for path in paths} == dict.fromkeys(paths, 200)


async def test_a_state_that_a_newer_oban_has_added_is_shown(admin: Admin) -> None:
    pool = admin.database.pool
    await pool.execute("ALTER TYPE oban_job_state ADD VALUE 'holding'")
    await pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron) VALUES ('s', 'w', '0 0 * * *')"
    )
    await pool.execute(
        """INSERT INTO oban_jobs (worker, state, meta) VALUES ('w', 'holding', '{"cron_name": "s"}')"""
    )
    visitor = await admin.signed_in()

    for path in ("/jobs", "/jobs/1", "/schedules", "/schedules/s", "/queues"):
        page = await visitor.get(path)
        assert (page.status, path == "/queues" or "holding" in page.text) == (200, True), path


async def test_a_job_shows_its_attempts_and_hides_secrets(admin: Admin) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, args, errors, state, attempt, attempted_at, discarded_at) VALUES
          ('count', '{"token": "s3cr3t", "n": 123456789012345678901234567890}',
           ARRAY['{"attempt": 1, "at": "2026-01-01T00:00:00Z", "error": "ValueError: one\\n\\nTraceback\\n line"}',
                 '{"attempt": 2, "at": "some day", "error": "ValueError: two"}']::jsonb[],
           'discarded', 2, now(), now())
        """
    )
    visitor = await admin.signed_in()

    page = await visitor.get("/jobs/1")

    assert page.text.index("ValueError: two") < page.text.index("ValueError: one")
    assert 'datetime="2026-01-01T00:00:00Z"' in page.html
    assert "123456789012345678901234567890" in page.html
    assert "s3cr3t" not in page.html
    assert (await visitor.get("/jobs/2")).status == 404
    assert (await visitor.get("/jobs/99999999999999999999999")).status == 404


async def test_arguments_are_listed_as_they_were_written(admin: Admin) -> None:
    await admin.database.pool.execute(
        """INSERT INTO oban_jobs (worker, args) VALUES ('greet', '{"to": "Zoë <&>"}'), ('list', '[1]')"""
    )
    visitor = await admin.signed_in()

    page = await visitor.get("/jobs")

    assert '{"to": "Zoë <&>"}' in page.text
    assert "<&>" not in page.html


@pytest.mark.parametrize("state", EVERY)
async def test_retry_and_cancel_by_state(admin: Admin, state: str) -> None:
    retriable = state not in ("available", "executing")
    cancellable = state not in ("completed", "discarded", "cancelled")
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, state, attempt, max_attempts, attempted_by)"
        " SELECT 'count', $1::text::oban_job_state, 3, 3, '{node,producer,nonce}' FROM generate_series(1, 2)",
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


@pytest.mark.parametrize(
    ("referer", "back"), [("{}/jobs/1", "/jobs/1"), ("https://evil.example/x", "/schedules")]
)
async def test_a_refused_action_leads_back_to_where_it_was_asked_for(
    admin: Admin, referer: str, back: str
) -> None:
    await admin.database.pool.execute("INSERT INTO oban_jobs (worker) VALUES ('count')")
    visitor = await admin.signed_in()
    headers = {"Origin": admin.origin, "Referer": referer.format(admin.origin)}
    await visitor.get("/jobs/1")

    page = await visitor.post("/jobs/1/cancel", {"state": "executing"}, headers=headers)

    assert page.status == 409
    assert f'<a href="{back}">Refresh</a>' in page.html
    assert page.field("next") == back


async def test_the_states_of_a_type_are_counted_above_the_bound(database: TestDatabase) -> None:
    first, *_ = [
        await database.pool.fetchval(
            "INSERT INTO oban_jobs (worker, queue, state) VALUES ($1, $2, $3) RETURNING id", *row
        )
        for row in [
            ("a", "q", "available"),
            ("a", "q", "completed"),
            ("a", "other", "completed"),
            ("b", "q", "completed"),
        ]
    ]

    every = await counts_above(database.pool, worker="a", queue=None, bound=first)
    there = await counts_above(database.pool, worker="a", queue="q", bound=first - 1)

    nothing = dict.fromkeys(map(str, JobState), 0)
    assert every == nothing | {"completed": 2}
    assert there == nothing | {"available": 1, "completed": 1}
