"""A supervisor beats for a process that works but shows no turn of its heartbeat, and not for ever."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID

import pytest

import quarterjack
from quarterjack_worker import stand_in as module
from quarterjack_worker.settings import Settings
from quarterjack_worker.stand_in import StandIn
from quarterjack_worker.supervisor import Supervisor
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.test_claims import producer
from tests.worker.working import ended

pytestmark = pytest.mark.newest_postgres

WORKS = "while True: pass"
WAITS = "import signal; signal.pause()"
SHOWN = "SELECT state, heartbeat_at > 'epoch' FROM qj_producers WHERE uuid = $1"


@pytest.fixture(autouse=True)
def environment(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("QUARTERJACK_SCHEMA", database.address.schema)


@contextmanager
def without_turns(code: str) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """A process, and both ends of a pipe that it does not write to, and that stays open after its end."""
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process, reader, writer
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


def stand_in(pid: int, *producers: UUID) -> StandIn:
    return StandIn(pid, producers, "n", draining=lambda: True, longest=1.5)


@pytest.mark.linux
async def test_it_beats_for_what_works_and_kills_it_after_a_while(database: TestDatabase) -> None:
    alive, dead = await producer(database), await producer(database)
    await database.pool.execute("UPDATE qj_producers SET heartbeat_at = 'epoch'")
    await database.pool.execute("UPDATE qj_producers SET state = 'dead' WHERE uuid = $1", dead)

    with without_turns(WORKS) as (process, turns, _):
        standing = stand_in(process.pid, alive, dead)
        await asyncio.to_thread(standing.watch, turns)
        assert process.wait() == -signal.SIGKILL

    assert standing.gave_up
    assert tuple(await database.row(SHOWN, alive)) == ("draining", True)
    assert tuple(await database.row(SHOWN, dead)) == ("dead", False)


@pytest.mark.linux
async def test_each_turn_gives_it_its_time_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs that hold the interpreter for a while, one after the other, cost nobody the process."""
    monkeypatch.setattr(module, "QUIET_FOR", 0.1)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.1)
    with without_turns(WORKS) as (process, turns, showing):
        standing = StandIn(process.pid, [], "n", draining=lambda: False)
        watching = asyncio.create_task(asyncio.to_thread(standing.watch, turns))
        await until(partial(_began, caplog, 1))
        os.write(showing, b".")

        await until(partial(_began, caplog, 2))
        process.kill()
        await watching


async def _began(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return sum("beating for it" in record.message for record in caplog.records) >= times


@pytest.mark.linux
async def test_an_end_is_seen_though_the_pipe_is_still_open() -> None:
    """As it is where a handler has forked."""
    with without_turns(WAITS) as (process, turns, _):
        standing = stand_in(process.pid)
        watching = asyncio.create_task(asyncio.to_thread(standing.watch, turns))
        process.kill()
        async with asyncio.timeout(5):
            await watching

    assert not standing.gave_up


@pytest.mark.linux
async def test_who_ends_its_heartbeat_is_watched_no_more() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with without_turns(WAITS) as (process, *_), os.fdopen(reader, "rb"):
        async with asyncio.timeout(5):
            await asyncio.to_thread(stand_in(process.pid).watch, reader)


@pytest.mark.linux
async def test_a_job_that_never_lets_go_of_the_interpreter_loses_its_process(
    database: TestDatabase,
) -> None:
    args = {"seconds": 60.0}
    await quarterjack.enqueue(database.pool, "hold_interpreter", args, max_attempts=1)
    settings = Settings(
        modules=("tests.faults.work",), queues={"default": 1}, processes=1, grace=1.0
    )
    arguments = ("--import", "tests.faults.work", "--queue", "default=1")
    parent = Supervisor(settings, arguments, "n", longest=1.5)
    living = asyncio.create_task(asyncio.to_thread(parent.run))
    try:
        [row] = await ended(database)
    finally:
        parent.stop()
        await living

    assert (row["state"], row["attempt"]) == ("discarded", 1)
    assert "held its interpreter for more than 1.5 s and was killed" in row["error"]
