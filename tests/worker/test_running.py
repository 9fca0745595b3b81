"""Outcomes, poison and interruptions, seen from outside a real worker."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.processes import Cluster, Service, cluster
from tests.waiting import until
from tests.worker.working import TAKEN

ENDED = (
    "SELECT bool_and(state IN ('completed', 'cancelled', 'discarded', 'retryable')) FROM oban_jobs"
)


@asynccontextmanager
async def working(
    database: TestDatabase, queues: str = "default=20"
) -> AsyncIterator[tuple[Cluster, Service]]:
    async with cluster(database) as running:
        yield running, await running.worker("worker-1", import_="tests.jobs", queues=queues)


async def _jobs(database: TestDatabase) -> dict[str, asyncpg.Record]:
    rows = await database.pool.fetch(
        """
        SELECT worker, state::text, attempt, max_attempts, meta, scheduled_at > timezone('UTC', now()) AS later,
          errors[cardinality(errors)] ->> 'error' AS error, cardinality(errors) AS failures
        FROM oban_jobs
        """
    )
    return {row["worker"]: row for row in rows}


async def _ended(database: TestDatabase) -> Any:
    return await database.pool.fetchval(ENDED)


async def test_each_outcome_is_written(database: TestDatabase) -> None:
    failing = ["fail", "leave", "too_slow", "outside", "exhausted_iterator", "forgotten_await"]
    failing += ["discard_unsaid", "snooze_for_ever", "forgotten_await_on_the_loop"]
    workers = ["count", "in_thread", "cancel", "discard", *failing]
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool,
            [NewJob(worker=w, max_attempts=1) for w in (*workers, "too_slow_in_thread")],
        )
        await until(lambda: _ended(database))

        jobs = await _jobs(database)

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
    assert "make the handler async def" in jobs["forgotten_await"]["error"]
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

        job = (await _jobs(database))["snooze"]

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
        await until(lambda: _ended(database))

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

        died = (await _jobs(database))["die"]
        assert worker.running

    assert "ended with exit code 7 while it ran this job" in died["error"]
    assert died["failures"] == 2


async def test_a_drain_gives_back_what_is_unfinished_without_an_attempt(
    database: TestDatabase,
) -> None:
    async with cluster(database) as running:
        worker = await running.start(
            "worker-1",
            "quarterjack_worker",
            *("--import", "tests.jobs", "--queue", "default=20", "--grace", "0.2"),
        )
        await quarterjack.enqueue_many(database.pool, [NewJob(worker="wait_for_release")] * 5)
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = 5 FROM oban_jobs WHERE state = 'executing'"
            )
        )

        code = await worker.stop()

    rows = await database.pool.fetch("SELECT state::text, attempt, errors FROM oban_jobs")
    assert code == 0
    assert [(row["state"], row["attempt"], row["errors"]) for row in rows] == [
        ("available", 0, [])
    ] * 5
    assert await database.pool.fetchval("SELECT count(*) FROM qj_producers") == 0


async def test_an_unanswered_claim_goes_back(database: TestDatabase) -> None:
    async with working(database):
        producer = await until(lambda: database.pool.fetchval("SELECT uuid FROM qj_producers"))
        await database.pool.execute(
            """
            INSERT INTO oban_jobs (worker, state, attempt, attempted_at, attempted_by)
            VALUES ('count', 'executing', 1, timezone('UTC', now()), ARRAY['worker-1', $1, 'lost'])
            """,
            str(producer),
        )

        await until(lambda: _ended(database))

        job = (await _jobs(database))["count"]
    assert (job["state"], job["attempt"], job["failures"]) == ("completed", 1, 0)


@pytest.mark.parametrize("worker", ["wait_for_release", "write_once"])
async def test_a_job_taken_from_a_worker_is_not_overwritten(
    database: TestDatabase, worker: str
) -> None:
    await database.pool.execute("CREATE TABLE effects (n integer)")
    async with working(database) as (_, process):
        await quarterjack.enqueue(database.pool, worker)
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))
        await database.pool.execute(TAKEN)

        await database.pool.execute("CREATE TABLE released ()")
        await until(lambda: _said(process, "was taken from this worker"))

    assert await database.pool.fetchval("SELECT state::text FROM oban_jobs") in (
        "executing",
        "available",
    )
    assert await database.pool.fetchval("SELECT count(*) FROM effects") == 0


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


async def test_signals_of_oban_steer_the_queue(database: TestDatabase) -> None:
    async with working(database):
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM oban_producers"))
        await _signal(database, '{"action": "pause", "queue": "*", "ident": "Oban.worker-1"}')
        await until(lambda: database.pool.fetchval("SELECT paused FROM qj_producers"))
        await quarterjack.enqueue(database.pool, "wait_for_release")

        await _signal(database, "not an object")
        await _signal(database, '{"action": "resume", "queue": "*", "ident": "Oban.elsewhere"}')
        await _signal(database, '{"action": "scale", "queue": "default", "limit": 3}')
        await until(lambda: database.pool.fetchval("SELECT local_limit = 3 FROM qj_producers"))
        assert await database.pool.fetchval("SELECT state::text FROM oban_jobs") == "available"

        await _signal(database, '{"action": "resume", "queue": "default", "ident": "any"}')
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))
        await _signal(database, f'{{"action": "pkill", "job_id": {await _only_id(database)}}}')
        await until(lambda: database.pool.fetchval("SELECT state = 'cancelled' FROM oban_jobs"))


async def test_a_stopped_worker_is_replaced_and_wakes_up_harmless(database: TestDatabase) -> None:
    async with working(database) as (running, process):
        await running.scheduler()
        await quarterjack.enqueue(database.pool, "wait_for_release")
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM qj_lease WHERE term > 0"))
        await running.signal_session(process, signal.SIGSTOP)
        await running.worker("worker-2", import_="tests.jobs")
        await until(
            lambda: database.pool.fetchval("SELECT attempted_by[1] = 'worker-2' FROM oban_jobs"),
            within=20,
        )

        await running.signal_session(process, signal.SIGCONT)
        await until(lambda: _said(process, "starting again"), within=20)
        await database.pool.execute("CREATE TABLE released ()")
        await until(lambda: _ended(database))

    row = await database.pool.fetchrow(
        "SELECT state::text, attempt, attempted_by[1] AS by FROM oban_jobs"
    )
    assert row is not None
    assert (row["state"], row["attempt"], row["by"]) == ("completed", 2, "worker-2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--import", "no.such", "--queue", "default=1"), "there is no such module"),
        (("--import", "json", "--queue", "default=1"), "no job is defined there"),
        (("--import", "tests.jobs", "--queue", "default"), "NAME=LIMIT"),
        (("--import", "tests.jobs", "--queue", "a=1,a=2"), "given twice"),
    ],
)
async def test_a_mistake_on_the_command_line_is_told(
    database: TestDatabase, arguments: tuple[str, ...], said: str
) -> None:
    async with cluster(database) as running:
        worker = await running.start("worker-1", "quarterjack_worker", *arguments)
        async with asyncio.timeout(20):
            code = await worker.process.wait()
        await until(lambda: _said(worker, said))

    assert code != 0


async def _signal(database: TestDatabase, payload: str) -> None:
    await database.pool.execute("SELECT pg_notify('public.oban_signal', $1)", payload)


async def _only_id(database: TestDatabase) -> int:
    return int(await database.pool.fetchval("SELECT id FROM oban_jobs"))


async def _said(service: Service, text: str) -> bool:
    return any(text in line for line in service.lines)
