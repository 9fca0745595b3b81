"""A worker process that dies is followed by another, whenever it dies."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

import quarterjack
from quarterjack_worker import deaths, supervisor
from quarterjack_worker.settings import CONDEMNED, STOPPED, Settings
from tests.conftest import TestDatabase
from tests.processes import Service, cluster, free_port
from tests.waiting import until
from tests.worker.working import ended, said, working

pytestmark = pytest.mark.linux

IGNORED = "SELECT to_regclass('ignored') IS NOT NULL"


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


@pytest.mark.parametrize(
    ("code", "own"),
    [
        *((0, True), (7, True), (-signal.SIGSEGV, True), (-signal.SIGABRT, True)),
        *((-signal.SIGKILL, False), (-signal.SIGTERM, False), (-signal.SIGHUP, False)),
    ],
)
def test_a_death_is_its_own_fault_unless_somebody_may_have_sent_a_signal(
    code: int, own: bool
) -> None:
    assert deaths.by_its_own_fault(code) == own


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


@pytest.mark.parametrize(
    ("steady_after", "waits"), [(60.0, ["0.1 s", "0.2 s"]), (0.0, ["0.1 s"] * 2)]
)
async def test_lives_follow_each_other_more_slowly_until_one_was_long(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    steady_after: float,
    waits: list[str],
) -> None:
    monkeypatch.setattr(supervisor, "STEADY_AFTER", steady_after)
    settings = Settings(modules=("tests.doomed",), queues={"default": 1}, processes=1, grace=1.0)
    arguments = ("--import", "tests.doomed", "--queue", "default=1")
    parent = supervisor.Supervisor(settings, arguments, "n")
    living = asyncio.create_task(asyncio.to_thread(parent.run))

    async def waited() -> list[str]:
        said = [text for text in caplog.messages if "starting again" in text]
        return [text.rpartition(" in ")[2] for text in said] if len(said) > 1 else []

    try:
        assert (await until(waited, within=30))[:2] == waits
    finally:
        parent.stop()
        await living


async def test_one_that_waits_for_the_database_ends_at_once(database: TestDatabase) -> None:
    away = {"DATABASE_URL": f"postgresql://u@127.0.0.1:{free_port()}/x"}
    async with working(database, **away) as (_, worker):
        await until(partial(said, worker, "no database yet"), within=30)

        assert await worker.stop() == 0


@pytest.mark.parametrize("code", [0, STOPPED, CONDEMNED])
async def test_a_job_that_ends_its_process_has_taken_it_down(
    database: TestDatabase, code: int
) -> None:
    """Whatever the code, also if a worker ends with it by itself."""
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "leave_at_once", {"n": code}, max_attempts=1)
        [job] = await ended(database)
        await until(partial(_started, worker, 2), within=30)

        assert await worker.stop() == 0
    assert job["state"] == "discarded"
    assert "WorkerDied" in job["error"]


async def test_one_that_is_killed_while_it_drains_has_died_as_well(
    database: TestDatabase,
) -> None:
    """Else a job that takes its process down when that drains would do so for ever."""
    await quarterjack.enqueue(database.pool, "until_released", {"n": 1}, max_attempts=1)
    async with working(database) as (_, worker):
        await until(
            lambda: database.pool.fetchval("SELECT state = 'executing' FROM oban_jobs"), within=30
        )
        [child] = _children(worker)
        worker.send(signal.SIGTERM)
        os.kill(child, signal.SIGKILL)
        [job] = await ended(database)

    assert job["state"] == "discarded"
    assert "SIGKILL" in job["error"]


async def test_one_that_is_told_to_end_while_it_starts_another_ends_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u@127.0.0.1:{free_port()}/x")
    settings = Settings(modules=("tests.handlers",), queues={"default": 1}, processes=1, grace=60.0)
    arguments = ("--import", "tests.handlers", "--queue", "default=1")
    parent = supervisor.Supervisor(settings, arguments, "n")

    def told() -> UUID:
        parent.stop()
        return uuid4()

    monkeypatch.setattr(supervisor, "uuid4", told)

    async with asyncio.timeout(30):
        assert await asyncio.to_thread(parent.run) == 0


async def test_a_process_that_hears_of_no_end_is_killed(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs go back as those of any other that is told to end."""
    monkeypatch.setattr(supervisor, "LAST_STEPS", 0.5)
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("QUARTERJACK_SCHEMA", database.address.schema)
    await quarterjack.enqueue(database.pool, "ignore_signals")
    settings = Settings(modules=("tests.handlers",), queues={"default": 1}, processes=1, grace=0.5)
    arguments = ("--import", "tests.handlers", "--queue", "default=1")
    parent = supervisor.Supervisor(settings, arguments, "n")
    living = asyncio.create_task(asyncio.to_thread(parent.run))
    try:
        await until(partial(database.pool.fetchval, IGNORED), within=30)
    finally:
        parent.stop()
        async with asyncio.timeout(20):
            code = await living

    left = await database.row("SELECT state::text, attempt, errors FROM oban_jobs")
    assert code == 0
    assert tuple(left) == ("available", 0, [])


@pytest.mark.parametrize("name", ["return_twice", "return_twice_in_thread"])
async def test_a_copy_that_a_handler_lets_return_ends(database: TestDatabase, name: str) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, name)
        [job] = await ended(database)

    assert (job["state"], job["meta"]["result"]) == ("completed", 0)


async def test_one_whose_output_is_closed_ends_in_order(database: TestDatabase) -> None:
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "close_stdout")
        await ended(database)

        assert await worker.stop() == 0
    assert await database.pool.fetchval("SELECT count(*) FROM qj_producers") == 0


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
