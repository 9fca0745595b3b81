"""What a process holds and will not run goes back at once, and is not waited for in vain."""

import asyncio
import json
from typing import Any

import pytest

from quarterjack.clock import boot
from quarterjack.queries import claims
from tests.waiting import until
from tests.worker.holding import Holding, has, ran, run

INSERT = "public.oban_insert"


async def test_a_drain_gives_back_what_waits_and_waits_for_that(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None begins in place of one that ends, for nobody would wait for it."""
    monkeypatch.setattr("quarterjack_worker.attempts.PATIENCE", 60.0)
    release = claims.release

    async def releasing(*args: Any, **named: Any) -> Any:
        if len(named["claims"]) > 1:
            await until(lambda: run(holding, 0))
        return await release(*args, **named)

    monkeypatch.setattr(claims, "release", releasing)
    holding.queue.limit = 1
    holding.attempts.take(await holding.claim(3, "endless"), asked_at=boot())
    await until(lambda: has(ran, 1))

    await holding.attempts.drain(0)

    assert not holding.attempts
    assert await holding.states() == {"available": 3}
    assert len(ran) == 1


async def test_what_is_held_when_it_is_to_go_back_is_doubted(holding: Holding) -> None:
    holding.queue.paused = True
    jobs = await holding.claim(3)
    async with holding.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", jobs[0].id)
        holding.attempts.take(jobs, asked_at=boot())

        await asyncio.wait_for(holding.attempts.doubtful.wait(), 10)

    assert await holding.states() == {"available": 2, "executing": 1}


async def test_who_has_room_hears_of_what_goes_back(holding: Holding) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(*said: Any) -> None:
        heard.put_nowait(said[3])

    holding.queue.paused = True
    async with holding.pool.acquire() as ear:
        await ear.add_listener(INSERT, hear)
        jobs = await holding.claim(3)
        await asyncio.wait_for(heard.get(), 10)  # that of the insert
        holding.attempts.take(jobs, asked_at=boot())

        said = await asyncio.wait_for(heard.get(), 10)
        await ear.remove_listener(INSERT, hear)

    assert json.loads(said) == {"queue": "default"}
    assert await holding.states() == {"available": 3}


async def test_those_that_wait_are_looked_at_together(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many claims they come from, else a busy process would do nothing else."""
    looked: list[object] = []
    monkeypatch.setattr("quarterjack_worker.attempts.PATIENCE", 0.0)
    monkeypatch.setattr(holding.attempts, "_give_up", looked.append)
    holding.queue.paused = True
    for job in await holding.claim(3):
        holding.attempts.take([job], asked_at=boot())

    await until(lambda: has(looked, 1))

    assert len(looked) == 1


async def test_an_end_in_a_limited_queue_relieves_it_once_it_is_written(holding: Holding) -> None:
    """Until then the limit counts it."""
    holding.queue.limited = True
    holding.attempts.take(await holding.claim(1), asked_at=boot())
    await until(lambda: has(ran, 1))
    before = list(holding.relieved)
    await holding.all_ended()

    assert (before, holding.relieved) == ([], [holding.queue])


async def test_a_completion_of_its_own_relieves_a_limited_queue(holding: Holding) -> None:
    holding.queue.limited = True
    holding.attempts.take(await holding.claim(1, "completing"), asked_at=boot())
    await holding.all_ended()

    assert holding.relieved == [holding.queue]
    assert await holding.states() == {"completed": 1}


async def test_an_end_in_a_queue_without_limits_relieves_nobody(holding: Holding) -> None:
    holding.attempts.take(
        [*await holding.claim(1), *await holding.claim(1, "completing")], asked_at=boot()
    )
    await holding.all_ended()

    assert holding.relieved == []
