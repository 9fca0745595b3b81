"""Jobs in processes of their own: what happens to one happens to no other."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.queries import jobs
from quarterjack_worker.handlers.failures import LONGEST_ERROR, ROOM, Failed, storable
from quarterjack_worker.handlers.processes import Process
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.test_refresh import context
from tests.worker.working import ended, said, working

pytestmark = pytest.mark.newest_postgres


def marked(worker: str, mark: Path) -> NewJob:
    return NewJob(worker=worker, args={"mark": str(mark)})


def read(mark: Path) -> int:
    return int(mark.read_text()) if mark.exists() else 0


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


async def process_of(mark: Path) -> int:
    """The process that has set the mark."""

    async def look() -> int:
        return read(mark)

    return await until(look, within=20)


def lives(pid: int) -> bool:
    """Not a zombie either, of which no thread is left: while one is, its parent cannot see that it ends."""
    try:
        threads = len(os.listdir(f"/proc/{pid}/task"))
        return threads > 1 or "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # gone, or just going
        return False


async def gone(pid: int) -> bool:
    return not lives(pid)


async def test_a_default_timeout_of_sockets_stops_no_process() -> None:
    socket.setdefaulttimeout(60)
    try:
        process = await Process.start([])
        answers = await process.answers()
    finally:
        socket.setdefaulttimeout(None)

    assert answers
    await process.end()


async def test_a_process_that_hears_what_its_session_is_told_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the SIGTERM of a deploy, before it can pass over that."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "deaf_at_second.py").write_text(
        f"""
import os, pathlib, signal
heard = pathlib.Path({str(tmp_path / "heard")!r})
if not heard.exists():
    heard.touch()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
"""
    )

    process = await Process.start(["deaf_at_second"])

    assert process.idle
    assert (tmp_path / "heard").exists()
    await process.end()


async def test_a_process_that_dies_takes_its_own_job_along(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool,
            [marked("compute_until_released", tmp_path / "other"), NewJob(worker="crash")],
        )
        await until(
            lambda: database.pool.fetchval(
                "SELECT state = 'retryable' FROM oban_jobs WHERE worker = 'crash'"
            )
        )
        assert lives(await process_of(tmp_path / "other"))
        (tmp_path / "released").touch()
        await quarterjack.enqueue_many(database.pool, [marked("compute", tmp_path / "after")])

        other, crashed, after = await ended(database)

    assert (other["state"], other["failures"]) == ("completed", 0)
    assert crashed["error"] == "ProcessDied: the process that ran it was killed by SIGKILL"
    assert (after["state"], after["failures"]) == ("completed", 0)


async def test_what_a_process_says_of_a_failure_is_cut_there(database: TestDatabase) -> None:
    """Its worker, which has other jobs to run, would need seconds for many megabytes."""
    attempt = context(database.pool)
    attempt.job.worker = "fail_at_length"
    process = await Process.start(["tests.process_handlers"])

    with pytest.raises(Failed) as failed:
        await process.run(attempt)
    await process.end()

    said = str(failed.value)
    assert said.startswith("ValueError: xxx")
    assert len(said) <= LONGEST_ERROR + ROOM
    assert storable(said) == said


async def test_processes_are_used_again(database: TestDatabase, tmp_path: Path) -> None:
    pids = []
    async with working(database) as (_, worker):
        for n in range(3):
            await quarterjack.enqueue_many(database.pool, [marked("compute", tmp_path / f"{n}")])
            await ended(database)
            pids.append(await process_of(tmp_path / f"{n}"))

    assert len(set(pids)) == 1
    assert worker.pid not in pids


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_process_that_is_lost_while_it_waits_costs_no_job_an_attempt(
    database: TestDatabase, tmp_path: Path, signum: signal.Signals
) -> None:
    """One that dies looks alive until its last thread has ended, so nothing but an answer tells."""
    async with working(database):
        await quarterjack.enqueue_many(database.pool, [marked("compute", tmp_path / "before")])
        await ended(database)
        pid = read(tmp_path / "before")
        os.kill(pid, signum)

        await quarterjack.enqueue_many(database.pool, [marked("compute", tmp_path / "after")])
        both = await ended(database)
        await until(lambda: gone(pid))

    assert [(job["state"], job["failures"]) for job in both] == [("completed", 0)] * 2


async def test_a_timeout_kills_a_process_that_does_not_heed_it(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool, [marked("spin", tmp_path / "spin"), marked("heed", tmp_path / "heed")]
        )
        failed = await ended(database)
        await until(lambda: gone(read(tmp_path / "spin")))
        await quarterjack.enqueue_many(database.pool, [marked("compute", tmp_path / "after")])
        reused = await process_of(tmp_path / "after")

    assert [job["state"] for job in failed] == ["retryable"] * 2
    assert all("it ran longer than 0:00:00.500000" in job["error"] for job in failed)
    assert reused == await process_of(tmp_path / "heed")


async def test_outcomes_and_failures_leave_the_process(database: TestDatabase) -> None:
    workers = ["snooze_in_process", "unpicklable", "leave_process", "stop_iterating", "compute"]
    async with working(database):
        await quarterjack.enqueue_many(database.pool, [NewJob(worker=worker) for worker in workers])

        snoozed, unpicklable, left, without_pool, misfit = await ended(database)

    assert (snoozed["state"], snoozed["attempt"]) == ("scheduled", 0)
    assert snoozed["meta"]["warning"] == "attempt 1 comes back"
    assert "its outcome cannot leave the process: TypeError" in unpicklable["error"]
    assert "SystemExit: 3" in left["error"]
    assert "a handler in a process has no pool" in without_pool["error"]
    assert "ArgsInvalid: mark: Field required" in misfit["error"]


async def test_a_deploy_gives_the_job_of_a_process_back(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with working(database) as (running, worker):
        await quarterjack.enqueue_many(
            database.pool,
            [marked("compute_until_released", tmp_path / "a"), marked("spin", tmp_path / "b")],
        )
        pid = await process_of(tmp_path / "a")

        await running.signal_session(worker, signal.SIGTERM)
        async with asyncio.timeout(20):
            code = await worker.process.wait()
        await until(lambda: gone(pid))

    row = await database.row(
        "SELECT state::text, attempt, errors FROM oban_jobs ORDER BY id LIMIT 1"
    )
    assert code == 0
    assert (row["state"], row["attempt"], row["errors"]) == ("available", 0, [])


async def test_a_deploy_lets_a_process_finish_within_the_grace(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with working(database) as (running, worker):
        await quarterjack.enqueue_many(
            database.pool, [marked("compute_until_released", tmp_path / "job")]
        )
        await process_of(tmp_path / "job")
        await running.signal_session(worker, signal.SIGTERM)
        await until(lambda: said(worker, "draining: 1 jobs"))

        (tmp_path / "released").touch()
        async with asyncio.timeout(20):
            await worker.process.wait()

    row = await database.row("SELECT state::text, attempt FROM oban_jobs")
    assert (row["state"], row["attempt"]) == ("completed", 1)


async def test_a_cancelled_job_is_stopped_by_force(database: TestDatabase, tmp_path: Path) -> None:
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool, [marked("compute_until_released", tmp_path / "job")]
        )
        pid = await process_of(tmp_path / "job")

        id = await database.pool.fetchval("SELECT id FROM oban_jobs")
        await jobs.stop(database.pool, [id])
        [job] = await ended(database)
        await until(lambda: gone(pid))

    assert (job["state"], job["failures"]) == ("cancelled", 0)


async def test_no_process_outlives_its_worker(database: TestDatabase, tmp_path: Path) -> None:
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool, [marked("compute_until_released", tmp_path / "job")]
        )
        pid = await process_of(tmp_path / "job")

        os.kill(parent_of(pid), signal.SIGKILL)
        await until(lambda: gone(pid))
