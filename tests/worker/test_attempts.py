"""What a process holds: every claimed job from its claim to its outcome, and nothing else."""

import time
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import pytest

from quarterjack.clock import boot
from quarterjack.queries import acks
from quarterjack_worker.attempts import LATE, SLICE
from quarterjack_worker.handlers.registry import job
from quarterjack_worker.queues import Queue
from tests.waiting import until
from tests.worker.holding import Holding, acked, are, completed, freed, has, ran, run

MANY = SLICE + 50
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
met: list[str] = []


@job("set_tenant")
async def set_tenant() -> None:
    """Say for whom this is, as frameworks do, and leave it at that."""
    met.append(tenant.get())
    tenant.set("somebody")


async def test_jobs_begin_in_their_order_a_slice_at_a_time(holding: Holding) -> None:
    holding.attempts.take(await holding.claim(MANY), asked_at=boot())
    assert (holding.queue.running, len(holding.queue.waiting)) == (SLICE, 50)
    assert holding.attempts.stirred.is_set()

    await holding.all_ended()

    assert ran == list(range(MANY))
    assert holding.queue.running == 0
    assert await holding.states() == {"completed": MANY}


@pytest.mark.parametrize("place", [0, MANY - 1])
async def test_a_job_that_is_cancelled_before_it_begins_never_begins(
    holding: Holding, place: int
) -> None:
    jobs = await holding.claim(MANY)
    holding.attempts.take(jobs, asked_at=boot())

    holding.attempts.kill(jobs[place].id)
    await holding.all_ended()

    assert set(range(MANY)) - set(ran) == {place}
    assert holding.queue.running == 0
    assert await holding.states() == {"completed": MANY - 1, "cancelled": 1}


async def test_a_job_that_another_may_have_by_now_does_not_begin(holding: Holding) -> None:
    """As when the process is stopped between two of a batch."""
    jobs = await holding.claim(3)
    holding.attempts.take(jobs[:1], asked_at=boot())
    holding.attempts.take(jobs[1:], asked_at=boot() - LATE - 1)
    await holding.all_ended()

    assert holding.attempts.doubtful.is_set()
    await holding.lost.look()

    assert ran == [0]
    assert await holding.states() == {"available": 2, "completed": 1}
    assert await holding.pool.fetchval(
        "SELECT max(attempt) = 1 AND min(attempt) = 0 FROM oban_jobs"
    )


@pytest.mark.linux
async def test_a_job_that_was_claimed_before_the_machine_slept_does_not_begin(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = time.clock_gettime

    def slept(clock: int) -> float:
        return awake(clock) + (60.0 if clock == time.CLOCK_BOOTTIME else 0.0)

    holding.attempts.take(await holding.claim(1), asked_at=boot())
    monkeypatch.setattr(time, "clock_gettime", slept)
    await holding.all_ended()

    assert holding.attempts.doubtful.is_set()
    assert ran == []


async def test_what_has_not_ended_when_the_grace_is_over_goes_back(holding: Holding) -> None:
    holding.attempts.take(await holding.claim(MANY, "endless"), asked_at=boot())

    await holding.attempts.drain(0)

    assert (holding.queue.running, len(holding.queue.waiting)) == (0, 0)
    assert not holding.attempts
    assert await holding.states() == {"available": MANY}


async def test_no_more_run_than_may(holding: Holding) -> None:
    holding.queue.limit = 3
    holding.attempts.take(await holding.claim(MANY, "counted"), asked_at=boot())

    await holding.all_ended()

    assert max(ran) == 3
    assert await holding.states() == {"completed": MANY}


async def test_a_job_that_would_wait_for_long_goes_back(holding: Holding) -> None:
    holding.queue.limit, holding.queue.took = 3, 0.0001
    holding.attempts.take(await holding.claim(10, "endless"), asked_at=boot())
    holding.queue.look_ahead()
    assert holding.queue.ahead > 0
    assert holding.queue.free == 3 + holding.queue.ahead - 10

    await until(lambda: are(holding, {"available": 7, "executing": 3}))
    holding.queue.look_ahead()

    assert (holding.queue.running, len(holding.queue.waiting), holding.queue.ahead) == (3, 0, 0)
    assert (
        await holding.pool.fetchval("SELECT max(attempt) FROM oban_jobs WHERE state = 'available'")
        == 0
    )
    await holding.attempts.drain(0)


async def test_a_paused_queue_begins_nothing_more(holding: Holding) -> None:
    holding.queue.paused = True
    holding.attempts.take(await holding.claim(3), asked_at=boot())

    await until(lambda: are(holding, {"available": 3}))

    assert ran == []


async def test_waiting_jobs_begin_when_their_queue_is_scaled_up(holding: Holding) -> None:
    """Though nothing ends and nothing is claimed."""
    holding.queue.limit = 1
    holding.attempts.take(await holding.claim(3, "endless"), asked_at=boot())

    holding.queue.limit = 3
    await until(lambda: run(holding, 3))

    assert await holding.states() == {"executing": 3}
    await holding.attempts.drain(0)


async def test_a_thread_keeps_its_place_however_often_it_is_told_to_stop(holding: Holding) -> None:
    freed.clear()
    [job] = await holding.claim(1, "deaf")
    holding.attempts.take([job], asked_at=boot())
    try:
        await until(lambda: has(ran, 1))
        for _ in range(2):
            holding.attempts.kill(job.id)
            await until(lambda: acked(holding, job))
            await holding.states()
        assert holding.queue.running == 1
    finally:
        freed.set()
    await holding.all_ended()

    assert await holding.states() == {"cancelled": 1}


async def test_a_job_whose_thread_goes_on_does_not_go_back(holding: Holding) -> None:
    """Else another worker would run it at the same time."""
    freed.clear()
    holding.attempts.take(await holding.claim(1, "deaf"), asked_at=boot())
    try:
        await until(lambda: has(ran, 1))
        await holding.attempts.drain(0)

        assert await holding.states() == {"executing": 1}
    finally:
        freed.set()


async def test_a_waiting_job_that_is_cancelled_ends_at_once(holding: Holding) -> None:
    holding.queue.limit = 1
    jobs = await holding.claim(3, "endless")
    holding.attempts.take(jobs, asked_at=boot())

    holding.attempts.kill(jobs[2].id)
    await until(lambda: are(holding, {"available": 1, "executing": 2}))
    await holding.acker.flush()

    assert await holding.states() == {"available": 1, "executing": 1, "cancelled": 1}
    assert (holding.queue.running, len(holding.queue.waiting)) == (1, 0)
    await holding.attempts.drain(0)


@pytest.mark.parametrize(
    ("limit", "took", "limited", "ahead"),
    [(10, 1.0, False, 0), (10, 0.01, False, 5), (10, 0.0, False, 100), (10, 0.0, True, 0)],
)
def test_short_jobs_are_claimed_ahead(limit: int, took: float, limited: bool, ahead: int) -> None:
    """Not from a queue whose jobs are counted over all nodes."""
    queue = Queue(name="q", producer=uuid4(), limit=limit, own_limit=limit)
    queue.took, queue.limited = took, limited

    queue.look_ahead()

    assert (queue.ahead, queue.free) == (ahead, limit + ahead)


@pytest.mark.parametrize("before", [2, 3])
async def test_claims_are_made_again_when_acks_have_room(
    holding: Holding, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Whether there was none before a batch was written, or none while it was."""
    monkeypatch.setattr("quarterjack_worker.acker.FULL", 3)
    relieved: list[bool] = []
    holding.acker.relieved = lambda: relieved.append(holding.acker.full)
    outcomes = [completed(holding, job) for job in await holding.claim(3)]
    complete = acks.complete

    async def completing(*args: Any, **named: Any) -> set[int]:
        while outcomes:
            holding.acker.add(outcomes.pop())
        return await complete(*args, **named)

    monkeypatch.setattr(acks, "complete", completing)
    for _ in range(before):
        holding.acker.add(outcomes.pop())

    await holding.acker.flush()

    assert relieved == [False]


async def test_no_job_meets_the_context_variables_of_another(holding: Holding) -> None:
    """The end of one job makes room for the next, which must not begin as a part of it."""
    met.clear()
    holding.queue.limit = 1
    holding.attempts.take(await holding.claim(5, "set_tenant"), asked_at=boot())

    await holding.all_ended()

    assert met == ["nobody"] * 5
