"""What a job in a process may be and do: `async def`, copies of the process, programs that it starts."""

import asyncio
import importlib
import io
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

import quarterjack
from quarterjack.database import Pool
from quarterjack.model import JobState
from quarterjack.queries import jobs
from quarterjack.testing import enqueued
from quarterjack_worker.handlers.messages import Stop, pack, receive
from quarterjack_worker.handlers.processes import CHILD
from quarterjack_worker.handlers.registry import REGISTRY
from quarterjack_worker.testing import drain, perform
from tests.conftest import TestDatabase
from tests.process_handlers import Marked, await_anything
from tests.processes import cluster
from tests.waiting import until
from tests.worker.test_processes import gone, marked, process_of, read
from tests.worker.working import COMMAND, ended, working

pytestmark = pytest.mark.newest_postgres

THIRD = "(SELECT state::text FROM oban_jobs ORDER BY id OFFSET 2 LIMIT 1)"

ONLY_ONCE = """
import os

from quarterjack_worker import job

os.environ.pop("ONCE")

@job("only_once", process=True)
def only_once():
    pass
"""


async def stopped(mark: Path) -> bool:
    """Say whether a handler has heard that it was cancelled."""
    return mark.with_suffix(".stopped").name in os.listdir(mark.parent)


async def test_an_async_def_runs_in_a_process(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, await_anything, {"n": 3})

    told = await quarterjack_pool.fetchrow("SELECT percent, message FROM qj_journals")
    [child] = await enqueued(quarterjack_pool)
    assert (done.state, done.meta["result"]) == ("completed", {"n": 3})
    assert told is not None
    assert tuple(told) == (50, "half")
    assert (child.worker, child.args) == ("count", {"n": 3})


async def test_a_process_imports_what_its_worker_imports(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with cluster(database) as running:
        await running.worker(import_="tests.lending")
        await quarterjack.enqueue_many(database.pool, [marked("lent", tmp_path / "lent")])

        [done] = await ended(database)

    assert (done["state"], done["error"]) == ("completed", None)


async def test_a_job_whose_module_no_process_can_import_says_why(
    quarterjack_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_once.py").write_text(ONLY_ONCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ONCE", "yes")
    importlib.import_module("only_once")

    done = await perform(quarterjack_pool, "only_once")

    del REGISTRY["only_once"]
    assert "cannot import only_once: KeyError: 'ONCE'" in done.errors[0]["error"]


async def test_args_that_do_not_fit_an_async_def_in_a_process_fail_it(
    quarterjack_pool: Pool,
) -> None:
    done = await perform(quarterjack_pool, await_anything, {"n": "many"})

    assert done.errors[0]["error"].startswith("ArgsInvalid: n: Input should be a valid integer")


async def test_leaving_the_loop_of_a_process_ends_the_attempt(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, "leave_a_loop")

    assert (done.state, done.attempt) == ("discarded", 1)
    assert "SystemExit: 3" in done.errors[0]["error"]


async def test_a_timeout_interrupts_an_async_def_or_kills_its_process(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool,
            [
                marked("await_too_long_in_process", tmp_path / "heeds"),
                marked("spin_on_a_loop", tmp_path / "spins"),
            ],
        )
        failed = await ended(database)
        await until(lambda: gone(read(tmp_path / "spins")))
        await quarterjack.enqueue_many(database.pool, [marked("compute", tmp_path / "after")])
        reused = await process_of(tmp_path / "after")

    assert [job["state"] for job in failed] == ["retryable"] * 2
    assert all("it ran longer than 0:00:00.500000" in job["error"] for job in failed)
    assert await stopped(tmp_path / "heeds")
    assert reused == read(tmp_path / "heeds")


async def test_cancelling_interrupts_an_async_def_in_its_process(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with working(database):
        await quarterjack.enqueue_many(
            database.pool, [marked("await_in_process", tmp_path / "job")]
        )
        await process_of(tmp_path / "job")

        id = await database.pool.fetchval("SELECT id FROM oban_jobs")
        await jobs.stop(database.pool, [id])
        [job] = await ended(database)

        await until(lambda: stopped(tmp_path / "job"))
    assert (job["state"], job["failures"]) == ("cancelled", 0)


async def test_a_deploy_costs_a_job_no_attempt_whose_process_still_starts(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with working(database) as (running, worker):
        await quarterjack.enqueue_many(
            database.pool, [marked("await_in_process", tmp_path / "job")]
        )
        await until(lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"))

        await running.signal_session(worker, signal.SIGTERM)
        async with asyncio.timeout(20):
            await worker.process.wait()

    row = await database.row("SELECT state::text, attempt, errors FROM oban_jobs")
    assert tuple(row) == ("available", 0, [])


async def test_a_deploy_begins_no_job_that_waits_for_a_process(
    database: TestDatabase, tmp_path: Path
) -> None:
    """It goes back at once, while the others go on to their end."""
    async with cluster(database) as running:
        worker = await running.start("worker-1", *COMMAND, "--grace", "20")
        names = ("first", "second", "third")
        await quarterjack.enqueue_many(
            database.pool, [marked("compute_until_released", tmp_path / name) for name in names]
        )
        await until(lambda: database.pool.fetchval(f"SELECT {THIRD} = 'executing'"))
        for name in names[:2]:
            await process_of(tmp_path / name)

        await running.signal_session(worker, signal.SIGTERM)
        await until(lambda: database.pool.fetchval(f"SELECT {THIRD} = 'available'"))
        (tmp_path / "released").touch()
        async with asyncio.timeout(20):
            await worker.process.wait()

    rows = await database.pool.fetch("SELECT state::text, attempt FROM oban_jobs ORDER BY id")
    assert [tuple(row) for row in rows] == [("completed", 1), ("completed", 1), ("available", 0)]


async def test_a_copy_of_a_process_speaks_for_no_job(
    quarterjack_pool: Pool, tmp_path: Path
) -> None:
    for name in ("copy_itself", "crash"):
        await quarterjack.enqueue_many(quarterjack_pool, [marked(name, tmp_path / name)])

    copied, crashed = await drain(quarterjack_pool)

    assert (copied.state, crashed.state) == (JobState.COMPLETED, JobState.RETRYABLE)


async def test_a_process_that_dies_is_noticed_though_a_copy_of_it_lives(
    quarterjack_pool: Pool, tmp_path: Path
) -> None:
    mark = tmp_path / "copy"
    async with asyncio.timeout(30):
        died = await perform(quarterjack_pool, "leave_a_copy", Marked(mark))

    os.kill(read(mark), signal.SIGKILL)
    assert "ProcessDied: the process that ran it was killed by SIGKILL" in died.errors[0]["error"]


async def test_a_copy_that_a_handler_makes_can_be_ended(quarterjack_pool: Pool) -> None:
    async with asyncio.timeout(30):
        done = await perform(quarterjack_pool, "end_a_copy")

    assert done.meta["result"] == -signal.SIGTERM


async def test_ending_a_copy_of_a_worker_does_not_stop_the_worker(database: TestDatabase) -> None:
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "end_a_copy_in_thread")
        [done] = await ended(database)
        await quarterjack.enqueue(database.pool, "constant")
        await ended(database)

    assert done["meta"]["result"] == -signal.SIGTERM
    assert not any("draining" in line for line in worker.lines)


async def test_what_a_handler_has_started_is_killed_with_its_process(
    quarterjack_pool: Pool, tmp_path: Path
) -> None:
    mark = tmp_path / "program"

    done = await perform(quarterjack_pool, "start_and_spin", Marked(mark))

    assert "it ran longer than" in done.errors[0]["error"]
    await until(lambda: gone(read(mark)))


@pytest.mark.parametrize("length", [0, 7, 8, 20])
def test_what_a_worker_could_not_say_to_its_end_is_its_end(length: int) -> None:
    with pytest.raises(EOFError):
        receive(io.BytesIO(pack(Stop())[:length]))


async def test_a_process_whose_worker_is_gone_says_nothing() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            CHILD,
            str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    ours.close()

    said, _ = await process.communicate()

    assert (process.returncode, said) == (0, b"")
