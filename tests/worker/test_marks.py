"""A death costs an attempt those jobs that had begun, and no other."""

import os
import resource
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from quarterjack import NewJob, enqueue_many
from quarterjack_worker import marks
from quarterjack_worker.marks import SIZE, Marks, waiting
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.working import ended, working

pytestmark = pytest.mark.linux


@pytest.fixture
def memory() -> Iterator[int]:
    with marks.memory() as made:
        assert made is not None
        yield made


def test_what_was_taken_and_has_not_begun_waits(memory: int) -> None:
    shown = Marks(memory, list)

    shown.take(1)
    shown.take(2)
    shown.begin(2)

    assert [waiting(memory)(id) for id in (1, 2, 3)] == [True, False, False]


def test_no_mark_of_another_job_hides_that_one_has_begun(memory: int) -> None:
    shown = Marks(memory, list)

    shown.begin(7)
    shown.take(7 + SIZE)

    assert not waiting(memory)(7)


def test_marks_stay_until_the_outcome_is_written(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "TURN_AFTER", 3)
    shown = Marks(memory, lambda: [1, 2])

    for _ in range(3):
        shown.take(1)
        shown.begin(2)
        shown.begin(3)
        shown.begin(4)  # here the other half begins to count
        shown.take(2)
        shown.take(4)

        assert [waiting(memory)(id) for id in (1, 2, 3, 4)] == [True, False, False, True]


def test_memory_that_cannot_be_had_in_full_is_none() -> None:
    """As under a limit to what files may be."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        with marks.memory() as memory:
            assert memory is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_memory_every_job_may_have_begun() -> None:
    assert not waiting(None)(1)


async def test_jobs_that_wait_for_a_process_outlive_their_worker(
    database: TestDatabase, tmp_path: Path
) -> None:
    places = [tmp_path / str(number) for number in range(3)]
    made = [
        NewJob(worker="compute_until_released", args={"mark": str(place)}, max_attempts=1)
        for place in places
    ]
    async with working(database) as (_, worker):
        await enqueue_many(database.pool, made[:2])
        await until(partial(_all_there, places[:2]), within=30)
        await enqueue_many(database.pool, made[2:])
        await until(partial(_running, database, 3))

        os.kill(_child_of(worker.pid), signal.SIGKILL)
        await until(partial(_all_there, places), within=30)
        (tmp_path / "released").touch()
        rows = await ended(database)

    assert [(row["state"], row["attempt"]) for row in rows] == [
        ("discarded", 1),
        ("discarded", 1),
        ("completed", 1),
    ]


async def _all_there(places: list[Path]) -> bool:
    return all(place.exists() for place in places)


async def _running(database: TestDatabase, many: int) -> bool:
    """Say whether the worker has them: what its heartbeat shows has reached it."""
    return bool(
        await database.pool.fetchval("SELECT bool_or(running = $1) FROM qj_producers", many)
    )


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
