"""What becomes of jobs, poisonous ones too, seen from outside a real worker."""

import pytest

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.running import by_name, have_ended, working

pytestmark = pytest.mark.newest_postgres


async def test_each_outcome_is_written(database: TestDatabase) -> None:
    failing = ["fail", "leave", "too_slow", "outside", "exhausted_iterator", "forgotten_await"]
    failing += ["discard_unsaid", "snooze_for_ever", "forgotten_await_on_the_loop"]
    workers = ["count", "in_thread", "cancel", "discard", *failing]
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool,
            [NewJob(worker=w, max_attempts=1) for w in (*workers, "too_slow_in_thread")],
        )
        await until(lambda: have_ended(database))

        jobs = await by_name(database)

    assert {w: (jobs[w]["state"], jobs[w]["failures"]) for w in jobs} == {
        "count": ("completed", 0),
        "in_thread": ("completed", 0),
        "cancel": ("cancelled", 1),
        "discard": ("discarded", 1),
        "fail": ("discarded", 1),
        "leave": ("discarded", 1),
        "too_slow": ("discarded", 1),
        "too_slow_in_thread": ("discarded", 1),
        "outside": ("discarded", 1),
        "exhausted_iterator": ("discarded", 1),
        "forgotten_await": ("discarded", 1),
        "forgotten_await_on_the_loop": ("discarded", 1),
        "discard_unsaid": ("discarded", 1),
        "snooze_for_ever": ("discarded", 1),
    }
    assert "ValueError: a NUL" in jobs["fail"]["error"]
    assert "Outside: past everything" in jobs["outside"]["error"]
    assert "StopIteration" in jobs["exhausted_iterator"]["error"]
    assert "did not await it" in jobs["forgotten_await"]["error"]
    assert "RuntimeError: not a word" in jobs["discard_unsaid"]["error"]
    assert "0 to 36500 days" in jobs["snooze_for_ever"]["error"]
    assert "did not await it" in jobs["forgotten_await_on_the_loop"]["error"]
    assert "SystemExit: 3" in jobs["leave"]["error"]
    assert "longer than 0:00:00.100000" in jobs["too_slow"]["error"]
    assert "nobody wants it" in jobs["cancel"]["error"]


async def test_a_snooze_costs_no_attempt(database: TestDatabase) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, "snooze")
        await until(
            lambda: database.pool.fetchval(
                "SELECT state = 'scheduled' AND attempt = 0 FROM oban_jobs"
            )
        )

        job = (await by_name(database))["snooze"]

    assert job["later"]
    assert job["meta"]["snoozed"] == 1


async def test_a_foreign_insert_wakes_and_poison_fails_alone(database: TestDatabase) -> None:
    deep = '{"a":' * 3_000 + "1" + "}" * 3_000
    async with working(database):
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM qj_producers"))
        await database.pool.execute(
            """
            INSERT INTO oban_jobs (worker, args, meta) VALUES
              ('count', '{"n": "x"}', '{}'), ('nobody', '{}', '{}'), ('count', '[1]', '[]'),
              ('count', $1::text::jsonb, '{}'), ('in_thread', '{"n": 5}', '{"traceparent": 7}')
            """,
            deep.replace("1", "9" * 5_000, 1),
        )
        await until(lambda: have_ended(database))

        rows = await database.pool.fetch(
            "SELECT state::text, errors[1] ->> 'error' AS error FROM oban_jobs ORDER BY id"
        )

    assert [row["state"] for row in rows] == ["retryable"] * 4 + ["completed"]
    assert "ArgsInvalid: n: Input should be a valid integer" in rows[0]["error"]
    assert "knows no job named 'nobody'" in rows[1]["error"]
    assert "args are a list" in rows[2]["error"]
    assert "args are a str" in rows[3]["error"]


async def test_a_job_that_kills_its_process_fails_and_the_others_go_on(
    database: TestDatabase,
) -> None:
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "die", max_attempts=2)
        await until(
            lambda: database.pool.fetchval("SELECT state = 'discarded' FROM oban_jobs"), within=20
        )
        await quarterjack.enqueue_many(database.pool, [NewJob(worker="count")] * 5)
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = 5 FROM oban_jobs WHERE state = 'completed'"
            ),
            within=20,
        )

        died = (await by_name(database))["die"]
        assert worker.running

    assert "ended with exit code 7 while it ran this job" in died["error"]
    assert died["failures"] == 2


async def test_effects_commit_with_the_completion(database: TestDatabase) -> None:
    await database.pool.execute("CREATE TABLE effects (n integer); CREATE TABLE released ()")
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool, [NewJob(worker="write_once", args={"n": n}) for n in range(30)]
        )

        await until(
            lambda: database.pool.fetchval("SELECT bool_and(state = 'completed') FROM oban_jobs")
        )

    assert await database.pool.fetchval("SELECT count(DISTINCT n) FROM effects") == 30
    assert await database.pool.fetchval("SELECT count(*) FROM effects") == 30
