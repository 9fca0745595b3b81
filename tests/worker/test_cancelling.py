"""A job that somebody cancelled while it ran does not run again, whatever becomes of the signal, handler and worker."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from quarterjack import Job
from quarterjack.clock import boot
from quarterjack.database import Pool
from quarterjack.queries import bulk, claims, producers, upkeep
from quarterjack_worker import Discard, Snooze, job
from tests.waiting import until
from tests.worker.holding import Holding, has, ran, run

AGAIN = """
UPDATE oban_jobs
SET attempt = attempt + 1, attempted_at = timezone('UTC', clock_timestamp())
"""
"""The next attempt, by whoever."""
SEEN = ("by the supervisor", "by the leader")


async def _until_cancelled() -> None:
    ran.append(0)
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


@job("protest")
async def protest() -> None:
    """Raise something else when it is cancelled, as some libraries do."""
    await _until_cancelled()
    raise ConnectionError("it was cut off")


@job("put_off")
async def put_off() -> object:
    """Ask to run again when it is cancelled."""
    await _until_cancelled()
    return Snooze(timedelta(hours=1))


@job("give_up")
async def give_up() -> object:
    """Say how it ends when it is cancelled."""
    await _until_cancelled()
    return Discard("half done")


@pytest.mark.parametrize(
    ("worker", "state", "said"),
    [
        ("protest", "cancelled", "ConnectionError: it was cut off"),
        ("put_off", "cancelled", None),
        ("give_up", "discarded", "Discarded: half done"),
    ],
)
async def test_a_handler_that_is_cancelled_cannot_ask_for_another_attempt(
    holding: Holding, worker: str, state: str, said: str | None
) -> None:
    jobs = await holding.claim(1, worker)
    holding.attempts.take(jobs, asked_at=boot())
    await until(lambda: has(ran, 1))

    holding.attempts.kill(jobs[0].id)
    await holding.all_ended()

    row = await holding.pool.fetchrow("SELECT state::text, attempt, errors FROM oban_jobs")
    assert row is not None
    assert (row["state"], row["attempt"]) == (state, 1)
    assert [error["error"].partition("\n")[0] for error in row["errors"]] == (
        [said] if said else []
    )


async def test_it_is_stopped_though_the_signal_was_lost(holding: Holding) -> None:
    jobs = await holding.claim(2, "endless")
    holding.attempts.take(jobs, asked_at=boot())
    await until(lambda: run(holding, 2))

    assert await bulk.cancel(holding.pool, [jobs[0].id]) == 1
    assert await holding.states() == {"executing": 2}
    await holding.lost.look()
    await until(lambda: run(holding, 1))
    await holding.acker.flush()

    assert await holding.states() == {"cancelled": 1, "executing": 1}
    holding.attempts.kill(jobs[1].id)
    await holding.all_ended()


async def test_what_goes_back_is_cancelled(holding: Holding) -> None:
    jobs = await holding.claim(3)
    assert await bulk.cancel(holding.pool, [jobs[0].id]) == 1

    await holding.lost.look()

    assert await holding.states() == {"available": 2, "cancelled": 1}


async def _one_by_one(pool: Pool, jobs: list[Job]) -> None:
    for each in jobs:
        assert await bulk.cancel(pool, [each.id]) == 1


async def _all_at_once(pool: Pool, jobs: list[Job]) -> None:
    assert await bulk.cancel(pool, [each.id for each in jobs]) == len(jobs)


@pytest.mark.parametrize("cancel", [_one_by_one, _all_at_once])
@pytest.mark.parametrize("seen", SEEN)
async def test_it_is_cancelled_when_its_worker_dies(
    holding: Holding, cancel: Callable[[Pool, list[Job]], Awaitable[None]], seen: str
) -> None:
    jobs = await holding.claim(5)
    await cancel(holding.pool, list(jobs[:2]))

    await _die(holding, seen)

    assert await holding.states() == {"available": 3, "cancelled": 2}
    assert await holding.pool.fetchval("SELECT count(cancelled_at) FROM oban_jobs") == 2


@pytest.mark.parametrize("seen", SEEN)
async def test_a_later_attempt_whose_worker_dies_runs_again(holding: Holding, seen: str) -> None:
    await _one_by_one(holding.pool, list(await holding.claim(2)))
    await holding.pool.execute(AGAIN)

    await _die(holding, seen)

    assert await holding.states() == {"available": 2}


async def _die(holding: Holding, seen: str) -> None:
    if seen == "by the supervisor":
        uuids = [holding.queue.producer]
        await producers.bury(holding.pool, uuids=uuids, reason="it was killed", apart=False)
    else:
        await holding.pool.execute("UPDATE qj_producers SET state = 'dead'")
        await upkeep.rescue(holding.pool, limit=10)


async def test_a_later_attempt_is_not_cancelled_by_that(holding: Holding) -> None:
    jobs = await holding.claim(2)
    await _one_by_one(holding.pool, list(jobs))
    await holding.pool.execute(AGAIN)
    held = await claims.held_by(holding.pool, producers=[holding.queue.producer])
    assert list(held.values()) == [False, False]
    holding.attempts.take(jobs[:1], asked_at=boot())

    await holding.lost.look()
    await holding.all_ended()

    assert await holding.states() == {"completed": 1, "available": 1}
