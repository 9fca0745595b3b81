"""Interruptions, signals and mistakes, seen from outside a real worker."""

import asyncio
import signal

import pytest

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.processes import Service, cluster
from tests.waiting import until
from tests.worker.running import by_name, have_ended, working
from tests.worker.working import TAKEN

pytestmark = pytest.mark.newest_postgres


async def test_a_drain_gives_back_what_is_unfinished_without_an_attempt(
    database: TestDatabase,
) -> None:
    async with cluster(database) as running:
        worker = await running.start(
            "worker-1",
            "quarterjack_worker",
            *("--import", "tests.jobs", "--queue", "default=20", "--grace", "0.2"),
        )
        made = await quarterjack.enqueue_many(
            database.pool, [NewJob(worker="wait_for_release")] * 5
        )
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = 5 FROM oban_jobs WHERE state = 'executing'"
            )
        )

        code = await worker.stop()

        [named] = [line for line in worker.lines if "the grace of 0 s is over" in line]
    assert all(str(job.id) in named for job in made)
    rows = await database.pool.fetch("SELECT state::text, attempt, errors FROM oban_jobs")
    assert code == 0
    assert [(row["state"], row["attempt"], row["errors"]) for row in rows] == [
        ("available", 0, [])
    ] * 5
    assert await database.pool.fetchval("SELECT count(*) FROM qj_producers") == 0


async def test_a_worker_that_drains_shows_it_while_its_jobs_run(database: TestDatabase) -> None:
    """By that the database gives it none any more, whatever claims of it are on their way."""
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "wait_for_release")
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))
        worker.send(signal.SIGTERM)
        await until(lambda: database.pool.fetchval("SELECT state = 'draining' FROM qj_producers"))
        await database.pool.execute("CREATE TABLE released ()")
        await until(lambda: have_ended(database))


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

        await until(lambda: have_ended(database))

        job = (await by_name(database))["count"]
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


async def test_signals_of_oban_steer_the_queue(database: TestDatabase) -> None:
    async with working(database) as (running, _):
        await until(running.listening)
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
        await until(lambda: have_ended(database))

    row = await database.pool.fetchrow(
        "SELECT state::text, attempt, attempted_by[1] AS by FROM oban_jobs"
    )
    assert row is not None
    assert (row["state"], row["attempt"], row["by"]) == ("completed", 2, "worker-2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--import", "no.such", "--queue", "default=1"), "there is no such module; run in"),
        (("--import", "tests/jobs.py", "--queue", "default=1"), "write tests.jobs"),
        (("--import", "./tests/jobs.py", "--queue", "default=1"), "give a whole name"),
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
