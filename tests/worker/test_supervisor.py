"""A worker process that dies is followed by another, whenever it dies."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

import quarterjack
from tests.conftest import TestDatabase
from tests.processes import Service, cluster
from tests.waiting import until
from tests.worker.working import ended, said, working

pytestmark = pytest.mark.linux


async def test_one_that_is_killed_before_it_can_begin_is_followed_by_another(
    database: TestDatabase,
) -> None:
    async with working(database) as (_, worker):
        await until(partial(_started, worker, 1), within=30)
        [first] = _children(worker)
        os.kill(first, signal.SIGKILL)
        await until(partial(_is_followed, worker, first), within=30)
        [second] = _children(worker)
        os.kill(second, signal.SIGKILL)

        await until(partial(said, worker, "SIGKILL before it could begin; starting again"))
        await until(partial(_started, worker, 2), within=30)


async def test_one_that_waits_to_start_another_ends_at_once(database: TestDatabase) -> None:
    """Also after a signal that has no name."""
    async with cluster(database) as running:
        worker = await running.start(
            "worker-1", "tests.doomed", "--import", "tests.doomed", "--queue", "default=1"
        )
        number = signal.SIGRTMIN + 1
        await until(
            partial(said, worker, f"killed by signal {number} before it could begin; starting"),
            within=30,
        )

        assert await worker.stop() == 0


async def test_a_job_that_ends_its_process_with_code_0_has_taken_it_down(
    database: TestDatabase,
) -> None:
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "leave_at_once", max_attempts=1)
        [job] = await ended(database)
        await until(partial(_started, worker, 2), within=30)

        assert await worker.stop() == 0
    assert job["state"] == "discarded"
    assert "WorkerDied" in job["error"]


@pytest.mark.parametrize("name", ["return_twice", "return_twice_in_thread"])
async def test_a_copy_that_a_handler_lets_return_ends(database: TestDatabase, name: str) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, name)
        [job] = await ended(database)

    assert (job["state"], job["meta"]["result"]) == ("completed", 0)


async def test_a_worker_that_a_handler_starts_is_no_life_of_this_one(
    database: TestDatabase,
) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, "tell_what_is_inherited")
        [job] = await ended(database)

    assert job["error"] == "Discarded: []"


def _children(worker: Service) -> list[int]:
    return [
        int(pid)
        for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    ]


async def _is_followed(worker: Service, pid: int) -> bool:
    return not {pid}.issuperset(_children(worker))


async def _started(worker: Service, times: int) -> bool:
    return sum(" started: " in line for line in worker.lines) == times
