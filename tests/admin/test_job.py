"""The page of one job that runs, and of what it said."""

import json

from tests.admin.conftest import Admin

JOB = """
INSERT INTO oban_jobs (worker, state, attempt, attempted_at, attempted_by)
VALUES ('render', 'executing', 2, timezone('UTC', now()), '{node,producer,x}')
RETURNING id
"""
JOURNALS = """
INSERT INTO qj_journals (job_id, attempted_at, attempt, percent, message, lines, left_out)
SELECT id, attempted_at AT TIME ZONE 'UTC' - interval '1 us' * ago, attempt - ago, percent, message, lines, left_out
FROM oban_jobs, (VALUES
  (0, 37.5, 'page <3> of 8',
    '[{"at": "2026-11-24T10:11:12.123456+00:00", "level": "info", "text": "token=abc"}]'::jsonb, 4),
  (1, 99.0, 'of the attempt before', '[{"text": "<b>it</b> failed"}, 7]', 0)
) AS j (ago, percent, message, lines, left_out)
"""


async def test_a_running_job_shows_how_far_it_is_and_what_it_logged(admin: Admin) -> None:
    id = await admin.database.pool.fetchval(JOB)
    await admin.database.pool.execute(
        "UPDATE oban_jobs SET inserted_at = inserted_at - interval '1 hour'"
    )
    await admin.database.pool.execute(JOURNALS)
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get(f"/jobs/{id}")

    assert '<progress value="37.5"' in page.html
    assert "37.5 % page <3> of 8" in page.text
    assert "Attempt 2, 1 line, 4 earlier left out 10:11:12.123 INFO token=••••" in page.text
    assert "Attempt 1, 1 line" in page.text
    assert "&lt;b&gt;it" in page.html
    assert "of the attempt before" not in page.text

    await admin.database.pool.execute("UPDATE oban_jobs SET state = 'retryable'")
    after = await visitor.get(f"/jobs/{id}")

    assert "<progress" not in after.html
    assert "Attempt 2, 1 line" in after.text


async def test_a_running_job_shows_that_it_was_asked_to_stop(admin: Admin) -> None:
    id = await admin.database.pool.fetchval(JOB)
    visitor = await admin.signed_in("olga", "operator")
    before = await visitor.get(f"/jobs/{id}")

    after = await visitor.post(f"/jobs/{id}/cancel", {"state": "executing"})
    await admin.database.pool.execute("UPDATE oban_jobs SET attempted_at = timezone('UTC', now())")
    later = await visitor.get(f"/jobs/{id}")

    shown = ["asked to stop" in page.text for page in (before, after, later)]
    assert shown == [False, True, False]


async def test_the_journal_of_a_job_that_had_its_id_before_is_not_shown(admin: Admin) -> None:
    id = await admin.database.pool.fetchval(JOB)
    await admin.database.pool.execute(JOURNALS)
    await admin.database.pool.execute(
        "UPDATE oban_jobs SET inserted_at = timezone('UTC', clock_timestamp())"
    )
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get(f"/jobs/{id}")

    assert "Attempt 1" not in page.text


async def test_a_result_is_shown_without_its_secrets(admin: Admin) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, state, meta)
        VALUES ('render', 'completed', '{"result": {"pages": 8, "api_key": "s3cr3t"}}'), ('render', 'completed', '{}')
        """
    )
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get("/jobs/1")

    assert 'Result { "pages": 8, "api_key": "•••• hidden" }' in page.text
    assert "s3cr3t" not in page.html
    assert "Result" not in (await visitor.get("/jobs/2")).text


LARGE = """
INSERT INTO oban_jobs (worker, queue, state, args, meta, tags, errors, max_attempts)
SELECT
  'render', repeat('q', 127), 'discarded', jsonb_build_object('tenant', 'acme', 'token', 'abc', 'blob', blob),
  jsonb_build_object('warning', 'look out', 'result', blob, 'cron_name', repeat('c', 300)),
  ARRAY(SELECT 'tag' || n FROM generate_series(1, 5000) AS n),
  ARRAY(
    SELECT jsonb_build_object('attempt', n, 'error', 'no. ' || n || E'\n' || repeat('e', 30000))
    FROM generate_series(1, 25) AS n
  ),
  25
FROM (SELECT string_agg(md5(n::text), '') AS blob FROM generate_series(1, 100000) AS n) AS b
RETURNING id
"""


async def test_a_large_job_is_cut_on_its_page_and_whole_in_its_download(admin: Admin) -> None:
    id = await admin.database.pool.fetchval(LARGE)
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get(f"/jobs/{id}")
    listed = await visitor.get("/jobs?state=discarded")
    whole = json.loads((await visitor.get(f"/jobs/{id}/download")).html)

    assert len(page.html) < 600_000
    assert '"tenant": "acme"' in page.text
    assert '"blob": "…"' in page.text
    assert "look out" in page.text
    assert "tag100 and 4 900 more" in page.text
    assert "Attempt 25" in page.text
    assert "The last 20 of 25 are shown." in page.text
    assert "no. 25" in listed.text
    assert "acme" not in listed.text
    assert whole["args"]["token"] == "•••• hidden"
    assert len(whole["args"]["blob"]) == 3_200_000
    assert len(whole["errors"]) == 25
    assert len(whole["tags"]) == 5_000


async def test_a_job_of_any_shape_has_a_page_and_a_download(admin: Admin) -> None:
    id = await admin.database.pool.fetchval(
        """
        INSERT INTO oban_jobs (worker, args, meta, errors)
        SELECT
          'render', (repeat('[', 500) || '"' || repeat('x', 70000) || '"' || repeat(']', 500))::jsonb,
          to_jsonb(repeat('m', 70000)),
          ARRAY['"odd"', 'null']::jsonb[]
        RETURNING id
        """
    )
    visitor = await admin.signed_in("vera", "viewer")

    pages = [await visitor.get(path) for path in (f"/jobs/{id}", "/jobs", f"/jobs/{id}/download")]

    assert [each.status for each in pages] == [200, 200, 200]
    assert '"…"' in pages[0].text
