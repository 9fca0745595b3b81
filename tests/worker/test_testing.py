"""The testing kit runs jobs in the test's own process: one, or a queue until it is empty."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import quarterjack
import tests.completing_handlers
import tests.handlers
import tests.jobs
from quarterjack import NewJob, Unique
from quarterjack.database import Pool
from quarterjack.testing import advance, enqueued
from quarterjack_worker import Context, Snooze, job
from quarterjack_worker.testing import drain, perform, perform_job
from tests.documents import write_files
from tests.waiting import until

HOUR = timedelta(hours=1)


@job("family", queue="kin", priority=3, max_attempts=4, tags=["Kin"])
async def family(args: dict[str, Any], context: Context) -> None:
    """Have children until the last generation."""
    for _ in range(args["generations"] and 2):
        await quarterjack.enqueue(
            context.pool, "family", {"generations": args["generations"] - 1}, queue="kin"
        )


@job("for_ever", queue="kin")
async def for_ever(context: Context) -> None:
    """Follow itself."""
    await quarterjack.enqueue(context.pool, "for_ever", queue="kin")


@job("pass_time")
async def pass_time(context: Context) -> None:
    """Let an hour pass while it runs."""
    await advance(context.pool, HOUR)


@job("fail_too_late")
async def fail_too_late(args: dict[str, Any], context: Context) -> None:
    """Fail when all is done."""
    async with context.transaction():
        pass
    raise ValueError("after all")


@job("snooze_too_late")
async def snooze_too_late(args: dict[str, Any], context: Context) -> Snooze:
    """Ask for another attempt when all is done."""
    async with context.transaction():
        pass
    return Snooze(HOUR)


@job("answer_too_late", recorded=True)
async def answer_too_late(args: dict[str, Any], context: Context) -> int:
    """Give a result when all is done."""
    async with context.transaction():
        pass
    return 7


async def test_a_job_runs_as_its_type_says(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, "family", {"generations": 0})

    assert (done.state, done.attempt, done.errors) == ("completed", 1, [])
    assert (done.queue, done.priority, done.max_attempts, done.tags) == ("kin", 3, 4, ["kin"])
    assert await quarterjack_pool.fetchval("SELECT count(*) FROM qj_producers") == 0


@pytest.mark.parametrize(
    ("worker", "state", "error"),
    [
        ("snooze", "scheduled", None),
        ("cancel", "cancelled", "nobody wants it"),
        ("discard", "discarded", "it is hopeless"),
        ("fail", "discarded", "ValueError: a NUL"),
        ("too_slow_in_thread", "discarded", "longer than"),
        ("in_thread", "completed", None),
    ],
)
async def test_each_outcome_is_that_of_a_worker(
    quarterjack_pool: Pool, worker: str, state: str, error: str | None
) -> None:
    done = await perform(quarterjack_pool, worker)

    assert done.state == state
    assert [error in each["error"] for each in done.errors] == ([True] if error else [])


async def test_args_are_checked(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, "count", {"n": "many"})

    assert done.state == "retryable"
    assert "n: Input should be a valid integer" in done.errors[0]["error"]


async def test_a_job_is_named_by_its_handler_with_args_of_its_type(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, tests.jobs.count, tests.jobs.Numbered(n=7))

    assert (done.worker, done.args, done.state) == ("count", {"n": 7}, "completed")


async def test_effects_commit_with_the_completion(quarterjack_pool: Pool) -> None:
    await quarterjack_pool.execute("CREATE TABLE effects (n int); CREATE TABLE released ()")

    done = await perform(quarterjack_pool, "write_once", {"n": 7})

    assert done.state == "completed"
    assert await quarterjack_pool.fetchval("SELECT n FROM effects") == 7


async def test_a_failure_after_the_completion_is_told(
    quarterjack_pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    done = await perform(quarterjack_pool, "fail_too_late")

    assert done.state == "completed"
    assert "failed after that: ValueError: after all" in caplog.text


@pytest.mark.parametrize("worker", ["snooze_too_late", "answer_too_late"])
async def test_what_is_returned_after_the_completion_is_told(
    quarterjack_pool: Pool, caplog: pytest.LogCaptureFixture, worker: str
) -> None:
    done = await perform(quarterjack_pool, worker)

    assert (done.state, "result" in done.meta) == ("completed", False)
    said = {"snooze_too_late": "cannot be Snooze", "answer_too_late": "transaction(result=…)"}
    assert said[worker] in caplog.text


async def test_a_test_that_is_cancelled_is_no_failure_of_its_job(quarterjack_pool: Pool) -> None:
    running = asyncio.create_task(perform(quarterjack_pool, "wait_for_release"))
    await until(
        lambda: quarterjack_pool.fetchval(
            "SELECT count(*) = 1 FROM oban_jobs WHERE state = 'executing'"
        )
    )

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert await quarterjack_pool.fetchval("SELECT errors FROM oban_jobs") == []


async def test_a_job_that_is_not_due_can_be_run(quarterjack_pool: Pool) -> None:
    later = datetime.now(UTC) + HOUR
    made = await quarterjack.enqueue(quarterjack_pool, "count", scheduled_at=later)

    assert (await perform_job(quarterjack_pool, made.id)).state == "completed"


async def test_a_job_that_is_due_beyond_the_calendar_is_shown_and_run(
    quarterjack_pool: Pool,
) -> None:
    made = await quarterjack.enqueue(quarterjack_pool, "count")
    await quarterjack_pool.execute("UPDATE oban_jobs SET scheduled_at = '20000-01-01'")

    assert [each.id for each in await enqueued(quarterjack_pool)] == [made.id]
    assert (await perform_job(quarterjack_pool, made.id)).state == "completed"


async def test_a_queue_is_drained_with_what_its_jobs_enqueue(quarterjack_pool: Pool) -> None:
    await quarterjack.enqueue(quarterjack_pool, "count")
    await quarterjack.enqueue(quarterjack_pool, "family", {"generations": 2}, queue="kin")

    ran = await drain(quarterjack_pool, "kin")

    assert [(each.worker, each.args["generations"]) for each in ran] == [
        ("family", n) for n in (2, 1, 1, 0, 0, 0, 0)
    ]
    assert {each.state for each in ran} == {"completed"}
    assert [each.worker for each in await enqueued(quarterjack_pool)] == ["count"]


async def test_a_queue_drains_by_priority_and_passes_over_what_is_not_due(
    quarterjack_pool: Pool,
) -> None:
    later = datetime.now(UTC) + HOUR
    made = await quarterjack.enqueue_many(
        quarterjack_pool,
        [
            NewJob(worker="count", priority=5),
            NewJob(worker="count", scheduled_at=later),
            NewJob(worker="count", priority=1),
            NewJob(worker="count", scheduled_at=later - 2 * HOUR, priority=3),
        ],
    )

    ran = await drain(quarterjack_pool)

    assert [each.id for each in ran] == [made[2].id, made[3].id, made[0].id]


async def test_a_job_that_follows_itself_ends_the_test(quarterjack_pool: Pool) -> None:
    await quarterjack.enqueue(quarterjack_pool, "for_ever", queue="kin")

    with pytest.raises(AssertionError, match="not empty after 20 runs, the last of for_ever"):
        await drain(quarterjack_pool, "kin", limit=20)


async def test_a_queue_that_is_empty_after_as_many_runs_as_allowed_is_drained(
    quarterjack_pool: Pool,
) -> None:
    await quarterjack.enqueue_many(quarterjack_pool, [NewJob(worker="count")] * 3)

    assert len(await drain(quarterjack_pool, limit=3)) == 3


async def test_time_passes_for_snoozes_retries_and_unique_jobs(quarterjack_pool: Pool) -> None:
    unique = Unique(period=HOUR)
    await quarterjack.enqueue(quarterjack_pool, "snooze", unique=unique)
    assert len(await drain(quarterjack_pool)) == 1

    await advance(quarterjack_pool, HOUR / 2)
    assert await drain(quarterjack_pool) == []
    assert (await quarterjack.enqueue(quarterjack_pool, "snooze", unique=unique)).conflict
    await advance(quarterjack_pool, HOUR / 2)
    [again] = await drain(quarterjack_pool)

    assert again.meta["snoozed"] == 2
    assert not (await quarterjack.enqueue(quarterjack_pool, "snooze", unique=unique)).conflict
    with pytest.raises(ValueError, match="cannot go back"):
        await advance(quarterjack_pool, -HOUR)


async def test_a_running_job_stays_as_it_is_while_time_passes(quarterjack_pool: Pool) -> None:
    assert (await perform(quarterjack_pool, "pass_time")).state == "completed"


@pytest.mark.newest_postgres
async def test_the_documented_example_runs_in_a_project_of_its_own(tmp_path: Path) -> None:
    written = write_files("testing.md", tmp_path)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"),
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()

    assert written == ["reports.py", "test_reports.py", "pyproject.toml"]
    assert process.returncode == 0, said.decode()
    assert b"4 passed" in said


async def test_a_process_and_the_children_of_a_job_are_real(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, "fan_out_in_process", {"n": 1})

    assert done.state == "completed", done.errors
    children = await enqueued(quarterjack_pool, "child", {"n": 1}, queue="elsewhere")
    assert len(children) == 2


async def test_what_a_job_logs_is_in_its_journal(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, "tell_in_thread")

    journal = await quarterjack_pool.fetchrow("SELECT * FROM qj_journals")
    assert journal is not None
    assert (journal["job_id"], journal["percent"]) == (done.id, 100)


def test_a_handler_may_be_called_as_a_function() -> None:
    assert tests.completing_handlers.find_too_much(tests.handlers.Numbered(3)) == "xxx"
