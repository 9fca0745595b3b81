"""A blocked event loop is noticed, also when nothing ran until then."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import quarterjack
from quarterjack.telemetry import Telemetry
from quarterjack_worker import job
from quarterjack_worker.loop_watch import LoopWatch
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.test_engine import engine_of

pytestmark = pytest.mark.newest_postgres
noticed = threading.Event()


class Notice(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        noticed.set()


class Stirred(threading.Event):
    """Says that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.awaited.set()
        return super().wait(timeout)


@job("block_until_noticed")
async def block_until_noticed() -> None:
    """Block the loop until the log says so."""
    noticed.wait(20)


async def test_the_first_job_that_blocks_an_idle_loop_is_noticed_soon(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.loop_watch.IDLE_EVERY", 60.0)
    log, notice = logging.getLogger("quarterjack_worker.loop_watch"), Notice()
    log.addHandler(notice)
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        engine.attempts.stirred = stirred = Stirred()
        watch = LoopWatch(engine.attempts, Telemetry("worker", "n"))
        working = [
            asyncio.create_task(work) for work in (watch.run(), engine.claim_all(asyncio.Event()))
        ]
        await asyncio.to_thread(stirred.awaited.wait, 10)
        await quarterjack.enqueue(database.pool, "block_until_noticed")
        engine.wake()

        await until(lambda: _counted(watch))

        for task in working:
            task.cancel()
    log.removeHandler(notice)
    assert noticed.is_set()
    assert watch.blocks == {"block_until_noticed": 1}


async def _counted(watch: LoopWatch) -> bool:
    return bool(watch.blocks)
