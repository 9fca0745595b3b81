"""What is written together with a completion: the jobs that it enqueues, and its result."""

import pytest

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.working import TAKEN, ended, said, working

pytestmark = pytest.mark.newest_postgres

CHILDREN = """
SELECT state::text, queue, args, priority, max_attempts, tags
FROM oban_jobs
WHERE worker = 'child'
ORDER BY priority DESC
"""
ENDED = "SELECT state NOT IN ('available', 'executing') FROM oban_jobs WHERE worker LIKE 'fan_out%'"
HOW_MANY = "SELECT count(*) FROM oban_jobs WHERE worker = 'child'"


@pytest.mark.parametrize("worker", ["fan_out", "fan_out_in_thread", "fan_out_in_process"])
async def test_children_are_there_when_their_parent_has_completed(
    database: TestDatabase, worker: str
) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, worker, {"n": 7})
        await until(lambda: database.pool.fetchval(ENDED), within=20)

        children = await database.pool.fetch(CHILDREN)

    assert [tuple(row) for row in children] == [
        ("available", "elsewhere", {"n": 7}, 3, 4, ["born"]),
        ("available", "elsewhere", {"n": 7}, 1, 4, ["born"]),
    ]


async def test_a_failed_attempt_has_no_children(database: TestDatabase) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, "fan_out_and_fail")

        [job] = await ended(database)

    assert "after all" in job["error"]


async def test_a_job_that_was_taken_from_its_worker_has_no_children(database: TestDatabase) -> None:
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "fan_out_when_released")
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))
        await database.pool.execute(TAKEN)

        await database.pool.execute("CREATE TABLE released ()")
        await until(lambda: said(worker, "was taken from this worker"))

    assert await database.pool.fetchval(HOW_MANY) == 0


async def test_a_child_that_cannot_be_is_told_where_it_is_made(database: TestDatabase) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, "fan_out_badly")

        [job] = await ended(database)

    assert job["error"].count(" | ") == 3, job["error"]
    misfit, unstorable, listed, large = job["error"].removeprefix("Discarded: ").split(" | ")
    assert misfit.startswith("args of child: n: Input should be a valid integer")
    assert "NUL" in unstorable
    assert "args are a list" in listed
    assert "more than 16 MB" in large


async def test_a_transaction_takes_children_and_result_along(database: TestDatabase) -> None:
    await database.pool.execute("CREATE TABLE effects (n integer)")
    async with working(database):
        await quarterjack.enqueue(database.pool, "settle", {"n": 5})
        await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM effects"))

        parent = await database.row(
            "SELECT state::text, meta FROM oban_jobs WHERE worker = 'settle'"
        )

    assert (parent["state"], parent["meta"]["result"]) == ("completed", {"n": 5})
    assert await database.pool.fetchval(HOW_MANY) == 1


async def test_a_result_is_recorded_if_its_type_says_so(database: TestDatabase) -> None:
    workers = ["find", "find_in_process", "find_nothing", "return_junk"]
    lost = ["find_too_much", "find_junk", "find_unreadable"]
    lost += ["find_junk_in_process", "find_unreadable_in_process"]
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool, [NewJob(worker=w, args={"n": 90_000}) for w in workers + lost]
        )

        jobs = {job["worker"]: job for job in await ended(database)}

    assert {job["state"] for job in jobs.values()} == {"completed"}
    assert (
        jobs["find"]["meta"]
        == jobs["find_in_process"]["meta"]
        == {"result": {"lengths": ["P1DT1H"]}}
    )
    assert jobs["find_nothing"]["meta"] == jobs["return_junk"]["meta"] == {}
    for worker in lost:
        assert jobs[worker]["meta"]["warning"].startswith("the result was not recorded: ")
        assert "result" not in jobs[worker]["meta"]
