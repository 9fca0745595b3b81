"""The page of one job that runs, and of what it said."""

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
