"""What a process holds: every claimed job from its claim to its outcome, and nothing else."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

import quarterjack
from quarterjack import Job, NewJob
from quarterjack.queries import acks, claims
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Want
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.attempts import SLICE, Attempts
from quarterjack_worker.handlers.processes import Processes
from quarterjack_worker.handlers.registry import REGISTRY, job
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.lost_claims import LOOKS, LostClaims
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queue, Queues
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.test_claims import producer

MANY = SLICE + 50
STATES = "SELECT state::text, count(*)::integer FROM oban_jobs GROUP BY 1"
ran: list[int] = []
running: list[int] = []
freed = threading.Event()


@job("noted")
async def noted(args: dict[str, Any]) -> None:
    """Note that it ran."""
    ran.append(args["n"])


@job("counted")
async def counted() -> None:
    """Note how many run at once."""
    running.append(1)
    await asyncio.sleep(0)
    ran.append(len(running))
    running.pop()


@job("endless")
async def endless() -> None:
    """Run until it is cancelled."""
    await asyncio.Event().wait()


@job("deaf")
def deaf() -> None:
    """Hold a thread until the test frees it."""
    ran.append(0)
    freed.wait(30)


class Holding:
    """A process with one queue, without the loops that claim and ack by themselves."""

    def __init__(self, database: TestDatabase, queues: Queues, threads: ThreadPoolExecutor) -> None:
        pool, telemetry = database.pool, Telemetry("worker", "n")
        runner = Runner(
            REGISTRY,
            [],
            pool=pool,
            told=lambda *_: None,
            threads=threads,
            processes=Processes(REGISTRY, 1),
        )
        self.pool = pool
        self.queue = queues["default"]
        self.unanswered: set[str] = set()
        self.acker = Acker(pool, telemetry)
        self.attempts = Attempts(
            pool,
            queues,
            runner,
            acker=self.acker,
            telemetry=telemetry,
            web=ObanWeb("n", queues),
            ended=lambda queue: None,
        )
        self.lost = LostClaims(pool, queues, self.attempts, self.acker, self.unanswered)

    async def claim(self, many: int, worker: str = "noted") -> Sequence[Job]:
        await quarterjack.enqueue_many(
            self.pool, [NewJob(worker=worker, args={"n": n}) for n in range(many)]
        )
        want = Want(queue="default", producer=self.queue.producer, demand=many)
        return await claims.claim(self.pool, wants=[want], node="n", nonce="x")

    async def all_ended(self) -> None:
        await until(self._idle)
        await self.acker.flush()

    async def _idle(self) -> bool:
        return not self.attempts

    async def states(self) -> dict[str, int]:
        return {row["state"]: row["count"] for row in await self.pool.fetch(STATES)}


@pytest.fixture
async def holding(database: TestDatabase) -> AsyncIterator[Holding]:
    ran.clear()
    uuid = await producer(database)
    with ThreadPoolExecutor(1) as threads:
        yield Holding(database, Queues({"default": 1000}, {"default": uuid}, "n"), threads)


async def test_jobs_begin_in_their_order_a_slice_at_a_time(holding: Holding) -> None:
    holding.attempts.take(await holding.claim(MANY), claimed_from=0)
    assert (holding.queue.running, holding.queue.waiting) == (SLICE, 50)

    await holding.all_ended()

    assert ran == list(range(MANY))
    assert holding.queue.running == 0
    assert await holding.states() == {"completed": MANY}


@pytest.mark.parametrize("place", [0, MANY - 1])
async def test_a_job_that_is_cancelled_before_it_begins_never_begins(
    holding: Holding, place: int
) -> None:
    jobs = await holding.claim(MANY)
    holding.attempts.take(jobs, claimed_from=0)

    holding.attempts.kill(jobs[place].id)
    await holding.all_ended()

    assert set(range(MANY)) - set(ran) == {place}
    assert holding.queue.running == 0
    assert await holding.states() == {"completed": MANY - 1, "cancelled": 1}


async def test_what_has_not_ended_when_the_grace_is_over_goes_back(holding: Holding) -> None:
    holding.attempts.take(await holding.claim(MANY, "endless"), claimed_from=0)

    await holding.attempts.drain(0)

    assert (holding.queue.running, holding.queue.waiting) == (0, 0)
    assert not holding.attempts
    assert await holding.states() == {"available": MANY}


async def test_no_more_run_than_may(holding: Holding) -> None:
    holding.queue.limit = 3
    holding.attempts.take(await holding.claim(MANY, "counted"), claimed_from=0)

    await holding.all_ended()

    assert max(ran) == 3
    assert await holding.states() == {"completed": MANY}


async def test_a_job_that_would_wait_for_long_goes_back(holding: Holding) -> None:
    holding.queue.limit, holding.queue.took = 3, 0.0001
    holding.attempts.take(await holding.claim(10, "endless"), claimed_from=0)
    holding.queue.look_ahead()
    assert holding.queue.ahead > 0

    await until(lambda: _are(holding, {"available": 7, "executing": 3}))
    holding.queue.look_ahead()

    assert (holding.queue.running, holding.queue.waiting, holding.queue.ahead) == (3, 0, 0)
    assert (
        await holding.pool.fetchval("SELECT max(attempt) FROM oban_jobs WHERE state = 'available'")
        == 0
    )
    await holding.attempts.drain(0)


async def test_a_paused_queue_begins_nothing_more(holding: Holding) -> None:
    holding.queue.paused = True
    holding.attempts.take(await holding.claim(3), claimed_from=0)

    await until(lambda: _are(holding, {"available": 3}))

    assert ran == []


async def test_waiting_jobs_begin_when_their_queue_is_scaled_up(holding: Holding) -> None:
    """Though nothing ends and nothing is claimed."""
    holding.queue.limit = 1
    holding.attempts.take(await holding.claim(3, "endless"), claimed_from=0)

    holding.queue.limit = 3
    await until(lambda: _run(holding, 3))

    assert await holding.states() == {"executing": 3}
    await holding.attempts.drain(0)


async def test_what_cannot_be_given_back_is_looked_for(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def release(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(claims, "release", release)
    holding.queue.paused = True
    holding.attempts.take(await holding.claim(3), claimed_from=0)

    await asyncio.wait_for(holding.attempts.doubtful.wait(), 10)
    monkeypatch.undo()
    await holding.lost.look()

    assert await holding.states() == {"available": 3}


async def test_a_claim_that_was_cut_off_is_looked_for_without_end(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may wait for a standby for as long as that stalls, and commit then, while nothing else happens."""
    monkeypatch.setattr("quarterjack_worker.lost_claims.EVERY", 0.001)
    looks: list[int] = []
    look = claims.held_by

    async def held_by(*args: Any, **options: Any) -> Any:
        looks.append(1)
        return await look(*args, **options)

    monkeypatch.setattr(claims, "held_by", held_by)
    holding.lost.cut_off()
    running = asyncio.create_task(holding.lost.run())
    try:
        await until(lambda: _has(looks, 3 * LOOKS))
        await holding.claim(1)
        await until(lambda: _are(holding, {"available": 1}))
    finally:
        running.cancel()


async def test_a_thread_keeps_its_place_however_often_it_is_told_to_stop(holding: Holding) -> None:
    freed.clear()
    [job] = await holding.claim(1, "deaf")
    holding.attempts.take([job], claimed_from=0)
    try:
        await until(lambda: _has(ran, 1))
        for _ in range(2):
            holding.attempts.kill(job.id)
            await until(lambda: _acked(holding, job))
            await holding.states()
        assert holding.queue.running == 1
    finally:
        freed.set()
    await holding.all_ended()

    assert await holding.states() == {"cancelled": 1}


async def test_a_waiting_job_that_is_cancelled_ends_at_once(holding: Holding) -> None:
    holding.queue.limit = 1
    jobs = await holding.claim(3, "endless")
    holding.attempts.take(jobs, claimed_from=0)

    holding.attempts.kill(jobs[2].id)
    await until(lambda: _are(holding, {"available": 1, "executing": 2}))
    await holding.acker.flush()

    assert await holding.states() == {"available": 1, "executing": 1, "cancelled": 1}
    assert (holding.queue.running, holding.queue.waiting) == (1, 0)
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


async def test_a_claim_that_is_not_answered_yet_is_not_lost(holding: Holding) -> None:
    await holding.claim(3)
    holding.unanswered.add("x")

    await holding.lost.look()
    assert await holding.states() == {"executing": 3}

    holding.unanswered.discard("x")
    await holding.lost.look()
    assert await holding.states() == {"available": 3}


async def test_what_runs_or_waits_for_its_ack_is_not_lost(holding: Holding) -> None:
    jobs = await holding.claim(3)
    holding.attempts.take(jobs, claimed_from=0)

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
            holding.attempts.take(jobs, claimed_from=0)
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
    holding.attempts.take(jobs, claimed_from=0)
    await holding.all_ended()
    await holding.acker.flush()
    await holding.pool.execute("UPDATE oban_jobs SET state = 'executing', completed_at = NULL")

    await holding.lost.look()
    await holding.acker.flush()

    assert await holding.states() == {"completed": 1}
    assert ran == [0]


@pytest.mark.parametrize("before", [2, 3])
async def test_claims_are_made_again_when_acks_have_room(
    holding: Holding, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Whether there was none before a batch was written, or none while it was."""
    monkeypatch.setattr("quarterjack_worker.acker.FULL", 3)
    relieved: list[bool] = []
    holding.acker.relieved = lambda: relieved.append(holding.acker.full)
    outcomes = [_completed(holding, job) for job in await holding.claim(3)]
    complete = acks.complete

    async def completing(*args: Any) -> set[int]:
        while outcomes:
            holding.acker.add(outcomes.pop())
        return await complete(*args)

    monkeypatch.setattr(acks, "complete", completing)
    for _ in range(before):
        holding.acker.add(outcomes.pop())

    await holding.acker.flush()

    assert relieved == [False]


async def _are(holding: Holding, states: dict[str, int]) -> bool:
    return await holding.states() == states


async def _run(holding: Holding, many: int) -> bool:
    return holding.queue.running == many


async def _has(found: Sequence[object], many: int) -> bool:
    return len(found) >= many


async def _acked(holding: Holding, job: Job) -> bool:
    assert job.attempted_at is not None
    return (job.id, job.attempted_at) in holding.acker


def _completed(holding: Holding, job: Job) -> Ack:
    assert job.attempted_at is not None
    producer = str(holding.queue.producer)
    claim = claims.Claim(id=job.id, attempt=1, attempted_at=job.attempted_at, producer=producer)
    return Ack(claim=claim, state="completed")


async def _counted(complete: Any, written: list[int], db: Any, claims: Sequence[Any]) -> Any:
    written.append(len(claims))
    return await complete(db, claims)
