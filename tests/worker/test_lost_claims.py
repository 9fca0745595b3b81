"""What the database counts as a process's and the process does not hold is found and goes back."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from quarterjack.clock import boot
from quarterjack.queries import acks, bulk, claims
from quarterjack_worker.lost_claims import LOOKS
from tests.waiting import until
from tests.worker.holding import Holding, are, has, ran, run


async def test_what_cannot_be_given_back_is_looked_for(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def release(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(claims, "release", release)
    holding.queue.paused = True
    holding.attempts.take(await holding.claim(3), asked_at=boot())

    await asyncio.wait_for(holding.attempts.doubtful.wait(), 10)
    monkeypatch.undo()
    await holding.lost.look()

    assert await holding.states() == {"available": 3}


async def test_a_claim_that_was_cut_off_is_looked_for_without_end(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may wait for a standby for as long as that stalls, and commit then, while nothing else happens."""
    looks = _counting(monkeypatch)
    holding.lost.cut_off()
    running = asyncio.create_task(holding.lost.run())
    try:
        await until(lambda: has(looks, 3 * LOOKS))
        await holding.claim(1)
        await until(lambda: are(holding, {"available": 1}))
    finally:
        running.cancel()


async def test_a_claim_that_is_not_answered_yet_is_not_lost(holding: Holding) -> None:
    await holding.claim(3)
    holding.unanswered.add("x")

    await holding.lost.look()
    assert await holding.states() == {"executing": 3}

    holding.unanswered.discard("x")
    await holding.lost.look()
    assert await holding.states() == {"available": 3}


async def test_while_jobs_run_it_looks_without_end(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may have been cancelled by a signal that was lost."""
    looks = _counting(monkeypatch)
    holding.attempts.take(await holding.claim(1, "endless"), asked_at=boot())
    running = asyncio.create_task(holding.lost.run())
    try:
        await until(lambda: has(looks, 3 * LOOKS))
    finally:
        running.cancel()
    await holding.attempts.drain(0)


async def test_what_was_cancelled_or_taken_without_a_word_is_stopped(holding: Holding) -> None:
    """And nothing else, which runs on and does not go back either."""
    jobs = await holding.claim(3, "endless")
    holding.attempts.take(jobs, asked_at=boot())
    await until(lambda: has(ran, 3))
    await holding.pool.execute(
        "UPDATE oban_jobs SET state = 'cancelled', attempted_by[3] = 'other' WHERE id = $1",
        jobs[0].id,
    )
    await bulk.cancel(holding.pool, [jobs[1].id or 0])

    await holding.lost.look()
    await until(lambda: run(holding, 1))
    await holding.acker.flush()

    assert await holding.states() == {"cancelled": 2, "executing": 1}
    assert [claim.id for claim in holding.attempts] == [jobs[2].id]
    await holding.attempts.drain(0)


async def test_what_runs_or_waits_for_its_ack_is_not_lost(holding: Holding) -> None:
    jobs = await holding.claim(3)
    holding.attempts.take(jobs, asked_at=boot())

    await holding.lost.look()
    await holding.all_ended()
    await holding.lost.look()
    await holding.acker.flush()

    assert await holding.states() == {"completed": 3}
    assert len(ran) == 3


async def test_what_was_acked_since_the_first_look_is_not_lost(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ack is not written a second time either."""
    jobs = await holding.claim(3)
    look = claims.held_by
    looks: list[int] = []
    written: list[int] = []

    async def held_by(*args: Any, **options: Any) -> Any:
        found = await look(*args, **options)
        looks.append(len(found))
        if len(looks) == 1:
            holding.attempts.take(jobs, asked_at=boot())
            await holding.all_ended()
            await holding.acker.flush()
        return found

    monkeypatch.setattr(claims, "held_by", held_by)
    monkeypatch.setattr(acks, "complete", partial(_counted, acks.complete, written))
    await holding.lost.look()
    await holding.acker.flush()

    assert looks == [3, 0]
    assert written == [3]


async def test_a_completion_that_a_failover_lost_is_written_again(holding: Holding) -> None:
    jobs = await holding.claim(1)
    holding.attempts.take(jobs, asked_at=boot())
    await holding.all_ended()
    await holding.acker.flush()
    await holding.pool.execute("UPDATE oban_jobs SET state = 'executing', completed_at = NULL")

    await holding.lost.look()
    await holding.acker.flush()

    assert await holding.states() == {"completed": 1}
    assert ran == [0]


def _counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have it look all the time; a list that gets longer with each look."""
    monkeypatch.setattr("quarterjack_worker.lost_claims.EVERY", 0.001)
    looks: list[int] = []
    look = claims.held_by

    async def held_by(*args: Any, **options: Any) -> Any:
        looks.append(1)
        return await look(*args, **options)

    monkeypatch.setattr(claims, "held_by", held_by)
    return looks


async def _counted(
    complete: Any, written: list[int], db: Any, claims: Sequence[Any], **named: Any
) -> Any:
    written.append(len(claims))
    return await complete(db, claims, **named)
