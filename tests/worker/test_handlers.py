"""What a worker does around its handlers, and what no handler can do to others."""

import re
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.database import Pool
from quarterjack.queries import catalogue
from quarterjack.testing import enqueued
from quarterjack_worker import Context, job, testing
from quarterjack_worker.handlers.middleware import Next
from quarterjack_worker.handlers.registry import REGISTRY
from tests.conftest import TestDatabase
from tests.processes import free_port
from tests.waiting import until
from tests.worker.working import ended, said, working

pytestmark = pytest.mark.newest_postgres


async def read(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_middleware_sees_what_the_handler_returns_and_what_stops_it(
    database: TestDatabase,
) -> None:
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool,
            [
                NewJob(worker="layered", tags=["layers"]),
                NewJob(worker="layered", tags=["layers"], args={"n": "many"}),
                NewJob(worker="layered"),
            ],
        )

        whole, misfit, plain = await ended(database)

    assert whole["error"] == "Discarded: outer saw inner of the handler"
    assert "outer saw Failed: ArgsInvalid: n: Input should be a valid integer" in misfit["error"]
    assert plain["state"] == "completed"


tries: list[int] = []


@job("follow_at_last")
async def follow_at_last(context: Context) -> None:
    """Enqueue a job each time, and fail the first time."""
    tries.append(len(tries))
    context.enqueue("followed", {"try": tries[-1]})
    if len(tries) == 1:
        raise ConnectionError("try again")


async def again(context: Context, next: Next) -> object:
    context.enqueue("followed", {"try": "middleware"})
    with suppress(ConnectionError):
        return await next()
    return await next()


async def test_what_middleware_tries_again_is_enqueued_once(
    quarterjack_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "MIDDLEWARE", [again])
    tries.clear()

    done = await testing.perform(quarterjack_pool, follow_at_last)

    followed = await enqueued(quarterjack_pool, "followed")
    assert done.state == "completed"
    assert [each.args["try"] for each in followed] == ["middleware", 1]


@pytest.mark.parametrize(
    ("worker", "attempt", "least"),
    [
        ("constant", 1, 60),
        ("stepped", 1, 60),
        ("stepped", 7, 120),
        ("computed", 2, 7_200),
        ("miscomputed", 1, 17),
    ],
)
async def test_a_failed_job_waits_as_its_type_says(
    database: TestDatabase, worker: str, attempt: int, least: float
) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, worker)
        await database.pool.execute("UPDATE oban_jobs SET attempt = $1", attempt - 1)

        [job] = await ended(database)

    assert job["state"] == "retryable"
    assert least - 5 < job["waits"] < least * 1.1


async def test_a_timeout_of_a_moment_is_registered(quarterjack_pool: Pool) -> None:
    job("at_once")(lambda: None)
    at_once = replace(REGISTRY["at_once"], timeout=timedelta(microseconds=5))

    await catalogue.register(quarterjack_pool, [at_once.registration()], node="n")

    stored = await quarterjack_pool.fetchval("SELECT timeout FROM qj_job_types")
    assert stored == timedelta(microseconds=5)


async def test_a_context_knows_its_attempt_and_its_deadline(database: TestDatabase) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, "deadline")

        [job] = await ended(database)

    assert job["error"] == "Discarded: attempt 1, 5 minutes"


@pytest.mark.parametrize(
    ("worker_name", "how"), [("leave_in_a_task", "SystemExit"), ("stop_the_loop", "RuntimeError")]
)
async def test_a_job_that_would_end_the_process_disturbs_nobody(
    database: TestDatabase, worker_name: str, how: str
) -> None:
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "until_released")
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))

        await quarterjack.enqueue(database.pool, worker_name)
        await until(lambda: said(worker, f"tried to end the process by {how}"))
        await database.pool.execute("CREATE TABLE released ()")

        jobs = await ended(database)

    assert [(job["state"], job["attempt"], job["failures"]) for job in jobs] == [
        ("completed", 1, 0)
    ] * 2


async def test_a_blocked_event_loop_is_named_and_costs_no_job_its_worker(
    database: TestDatabase,
) -> None:
    port = free_port()
    async with working(database, QUARTERJACK_HEALTH=str(port)) as (running, worker):
        await running.scheduler()
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM qj_lease WHERE term > 0"))
        await quarterjack.enqueue(database.pool, "until_released")
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))
        blocking = await quarterjack.enqueue(database.pool, "block", {"n": 10})
        blame = f"job {blocking.id} block has blocked the event loop for"
        await until(lambda: said(worker, blame), within=20)
        await until(lambda: said(worker, "in block: make it"))
        await until(lambda: said(worker, "the event loop goes on after 1"), within=20)
        await database.pool.execute("CREATE TABLE released ()")

        jobs = await ended(database)
        measured = await read(f"http://127.0.0.1:{port}/metrics")
        blocked = await until(
            lambda: database.pool.fetchrow(
                """
                SELECT (end_time_unix_nano - start_time_unix_nano) / 1e9 AS seconds, attributes::text
                FROM otel_traces WHERE name = 'event loop blocked'
                """
            )
        )

    assert [(job["state"], job["attempt"], job["failures"]) for job in jobs] == [
        ("completed", 1, 0)
    ] * 2

    assert blocked is not None
    assert 'quarterjack_worker_attempts_total{worker="block",state="completed"} 1\n' in measured
    assert 'quarterjack_worker_loop_blocks_total{worker="block"} 1\n' in measured
    seconds = re.search(r'loop_blocked_seconds_total{worker="block"} ([0-9.]+)', measured)
    assert seconds is not None
    assert 9.5 < float(seconds[1]) < 11.5
    assert 9.5 < blocked["seconds"] < 11.5
    assert "block" in blocked["attributes"]
