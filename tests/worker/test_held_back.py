"""Limits over all nodes hold jobs of a queue back: when its worker looks again; and no other queue waits for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.queries import limited_claims, producers
from quarterjack.queries.claims import Want
from quarterjack.queries.limited_claims import Claimed, Look
from quarterjack.queries.limits import Limits
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.engine import Engine
from quarterjack_worker.handlers.processes import Processes
from quarterjack_worker.handlers.registry import REGISTRY
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import POLL, Queue, Queues
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.holding import ran
from tests.worker.limited import enqueue, limit
from tests.worker.test_claims import producer

DONE = "SELECT count(*) = $2 FROM oban_jobs WHERE queue = $1 AND state = 'completed'"


@asynccontextmanager
async def working(database: TestDatabase, *, limited: bool) -> AsyncIterator[Engine]:
    """Claim, run and acknowledge for the queues `default`, with limits or without, and `other`."""
    queues = Queues({"default": 10, "other": 10}, {"default": uuid4(), "other": uuid4()}, "n")
    queues["default"].limited = limited
    await producers.register(
        database.pool, node="n", pid=1, version="0", name="Oban", producers=queues.producing()
    )
    telemetry, stopping = Telemetry("worker", "n"), asyncio.Event()
    acker = Acker(database.pool, telemetry)
    with ThreadPoolExecutor(1) as threads:
        processes = Processes(REGISTRY, 1)
        runner = Runner(
            REGISTRY,
            [],
            pool=database.pool,
            told=lambda *_: None,
            threads=threads,
            processes=processes,
        )
        engine = Engine(
            database.pool,
            "n",
            queues,
            runner,
            acker=acker,
            telemetry=telemetry,
            web=ObanWeb("n", queues),
        )
        async with asyncio.TaskGroup() as group:
            acking = group.create_task(acker.run())
            claiming = group.create_task(engine.claim_all(stopping))
            try:
                yield engine
            finally:
                stopping.set()
                engine.wake()
                await claiming
                await engine.attempts.drain(10)
                await acker.flush()
                acking.cancel()


async def test_a_long_look_at_a_limited_queue_keeps_no_job_of_another_waiting(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran.clear()
    looking, looked = asyncio.Event(), asyncio.Event()
    claim = limited_claims.claim

    async def claiming(*args: Any, **named: Any) -> Claimed:
        if any(want.limited for want in named["wants"]):
            looking.set()
            await looked.wait()
        return await claim(*args, **named)

    monkeypatch.setattr(limited_claims, "claim", claiming)
    async with working(database, limited=True) as engine:
        await looking.wait()
        await quarterjack.enqueue(database.pool, "noted", {"n": 1}, queue="other")
        engine.heard("oban_insert", {"queue": "other"})
        try:
            await until(lambda: database.pool.fetchval(DONE, "other", 1))
        finally:
            looked.set()
    assert ran == [1]


async def test_an_end_makes_room_at_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of one would otherwise mean a job in each 50 ms at most."""
    for patience in ("POLL", "POLL_HELD_BACK"):
        monkeypatch.setattr(f"quarterjack_worker.queues.{patience}", 60.0)
    monkeypatch.setattr("quarterjack_worker.engine.SILENT", 60.0)
    await limit(database, Limits(global_limit=1))
    await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="noted", args={"n": n}) for n in range(5)]
    )
    async with working(database, limited=True) as engine:
        engine.beaten([])
        await until(lambda: database.pool.fetchval(DONE, "default", 5))


async def test_a_claim_knows_when_a_rate_gives_room(database: TestDatabase) -> None:
    hourly = Limits(rate_limit=60, rate_period=timedelta(hours=1), rate_burst=2)
    await limit(database, hourly)
    await enqueue(database, "a", 5)
    want = Want(queue="default", producer=await producer(database), demand=5, limited=True)

    for found in (2, 0):
        jobs, look = await limited_claims.claim_limited(
            database.pool, want=want, node="n", nonce="x"
        )
        assert (len(jobs), look.held_back, look.full) == (found, True, False)
        assert look.room_in is not None
        assert 30 < look.room_in <= 60


@pytest.mark.parametrize(
    ("look", "seconds"),
    [
        (Look(took=0.001, held_back=True), 0.05),
        (Look(took=0.03, held_back=True), 0.3),
        (Look(took=0.9, held_back=True), POLL),
        (Look(took=0.001, held_back=True, room_in=0.01), 0.01),
        (Look(took=0.001, held_back=True, room_in=0.4), 0.4),
        (Look(took=0.001, held_back=True, full=True, room_in=0.4), 0.05),
        (Look(took=0.001, held_back=True, room_in=3600), POLL),
        (Look(took=0.001, held_back=True, room_in=-1), 0.05),
    ],
)
def test_the_next_look_is_taken_when_there_may_be_room(look: Look, seconds: float) -> None:
    """And within a second, for somebody may have changed the limits."""
    queue = Queue(name="q", producer=uuid4(), limit=10, own_limit=10, limited=True)
    before = time.monotonic()

    queue.looked(look, found=1)

    assert before + seconds <= queue.look_at <= time.monotonic() + seconds


def test_looks_at_full_limits_become_rare_until_one_finds_something() -> None:
    """A long job under a limit of one would otherwise cost each worker twenty looks a second."""
    queue = Queue(name="q", producer=uuid4(), limit=10, own_limit=10, limited=True)

    def waits(room_in: float | None, found: int) -> float:
        queue.looked(Look(took=0.001, held_back=True, full=True, room_in=room_in), found=found)
        return round(queue.look_at - time.monotonic(), 2)

    assert [waits(None, found) for found in (1, 0, 0, 0, 0, 1)] == [
        0.05,
        0.1,
        0.2,
        0.25,
        0.25,
        0.05,
    ]
    assert [waits(0.0, 0) for _ in range(5)] == [0.05] * 5


def test_a_long_look_is_not_repeated_at_once_however_often_the_queue_is_rung() -> None:
    queues = Queues({"q": 10}, {"q": uuid4()}, "n")
    queues["q"].limited = True
    assert queues.wants(limited=True)

    queues["q"].looked(Look(took=50, held_back=True), found=1)
    queues.rung("q")

    assert queues.wants(limited=True) == []
    queues["q"].looked(Look(took=0.01, held_back=True), found=1)
    assert queues.wants(limited=True)


def test_only_its_own_claimer_has_a_limited_queue_looked_at_again() -> None:
    """The other one wakes nobody who looks at it, and one that is hungry is looked at only when woken."""
    queues = Queues({"q": 10}, {"q": uuid4()}, "n")
    queue = queues["q"]
    queue.limited, queue.hungry, queue.look_at = True, False, 0.0

    queues.look_again(limited=False)
    assert not queue.hungry

    queues.look_again(limited=True)
    assert queue.hungry


async def test_a_heartbeat_does_not_ring_what_is_known_to_be_held_back(
    database: TestDatabase,
) -> None:
    async with working(database, limited=False) as engine:
        queue = engine._queues["default"]
        await until(lambda: _rests(queue))
        queue.limited = True
        queue.looked(Look(took=5, held_back=True), found=1)

        engine.beaten(["default"])

        assert not queue.hungry
        queue.limited = False
        engine.beaten(["default"])
        assert queue.hungry


async def _rests(queue: Queue) -> bool:
    return not queue.hungry
