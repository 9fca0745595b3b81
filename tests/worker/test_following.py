"""A program enqueues, waits for a real worker, reads the result and cancels what runs."""

from datetime import timedelta

import quarterjack
from quarterjack import JobState
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.working import working

SOON = timedelta(seconds=20)
RUNS = "SELECT state = 'executing' FROM oban_jobs WHERE id = $1"


async def test_a_result_is_awaited_and_what_runs_is_cancelled(database: TestDatabase) -> None:
    pool = database.pool
    async with working(database):
        found = await quarterjack.enqueue(pool, "find", {"n": 90})
        result = (await quarterjack.wait_for_job(pool, found.id, within=SOON)).result
        running = await quarterjack.enqueue(pool, "until_released", {"n": 1})
        await until(lambda: pool.fetchval(RUNS, running.id))

        assert await quarterjack.cancel_jobs(pool, [running.id]) == 1
        stopped = await quarterjack.wait_for_job(pool, running.id, within=SOON)

    assert result == {"lengths": ["PT1M30S"]}
    assert stopped.state is JobState.CANCELLED
