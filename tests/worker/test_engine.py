"""When the worker claims, and what it says of itself while it cannot."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import quarterjack
from quarterjack import NewJob, channels
from quarterjack.queries import limited_claims
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Claim
from quarterjack.queries.limited_claims import Claimed
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.engine import Engine
from quarterjack_worker.handlers.processes import Processes
from quarterjack_worker.handlers.registry import REGISTRY
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queues
from tests.conftest import TestDatabase
from tests.flows import states
from tests.waiting import until
from tests.worker.holding import ran
from tests.worker.test_claims import producer

ALL_BEGUN = "SELECT bool_and(attempt = 1) FROM oban_jobs"


async def engine_of(
    database: TestDatabase, threads: ThreadPoolExecutor, acker: Acker | None = None
) -> Engine:
    queues = Queues({"default": 10}, {"default": await producer(database)}, "n")
    telemetry = Telemetry("worker", "n")
    runner = Runner(
        REGISTRY,
        [],
        pool=database.pool,
        told=lambda *_: None,
        threads=threads,
        processes=Processes(REGISTRY, 1),
    )
    return Engine(
        database.pool,
        "n",
        queues,
        runner,
        acker=acker or Acker(database.pool, telemetry),
        telemetry=telemetry,
        web=ObanWeb("n", queues),
    )


async def test_what_is_inserted_during_a_claim_is_claimed_next(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.engine.SILENT", 60.0)
    claimed: list[int] = []

    async def claim(*_: Any, **__: Any) -> Claimed:
        claimed.append(1)
        if len(claimed) == 1:
            engine.heard(channels.INSERT, {"queue": "default"})
        return Claimed(jobs=[], looks={})

    monkeypatch.setattr(limited_claims, "claim", claim)
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        claiming = asyncio.create_task(engine.claim_all(asyncio.Event()))

        await until(lambda: _has(claimed, 2))

        claiming.cancel()


async def test_without_heartbeats_jobs_are_looked_for_all_the_same(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody rings here, and none is answered."""
    monkeypatch.setattr("quarterjack_worker.engine.SILENT", 0.01)
    monkeypatch.setattr("quarterjack_worker.engine.POLL", 0.01)
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        claiming = asyncio.create_task(engine.claim_all(asyncio.Event()))
        for n in range(3):
            await quarterjack.enqueue(database.pool, "noted", {"n": n})

            await until(lambda: database.pool.fetchval(ALL_BEGUN))

        claiming.cancel()


async def test_a_worker_whose_claims_fail_is_not_ready(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its heartbeats are answered; and it tries on."""
    monkeypatch.setattr("quarterjack_worker.engine.SILENT", 60.0)
    monkeypatch.setattr("quarterjack_worker.queues.POLL", 0.001)
    tried: list[int] = []

    async def claim(*_: Any, **__: Any) -> Claimed:
        tried.append(1)
        raise ConnectionResetError

    monkeypatch.setattr(limited_claims, "claim", claim)
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        claiming = asyncio.create_task(engine.claim_all(asyncio.Event()))

        await until(lambda: _has(tried, 2))
        engine.beaten([])

        assert engine.unready() == "it has not looked for jobs yet"
        assert engine.lost_claims.doubtful.is_set()
        claiming.cancel()


async def test_jobs_of_a_late_answer_are_not_begun(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.attempts.LATE", -1)
    ran.clear()
    await quarterjack.enqueue(database.pool, "noted", {"n": 1})
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        claiming = asyncio.create_task(engine.claim_all(asyncio.Event()))
        await until(lambda: database.pool.fetchval("SELECT attempt = 1 FROM oban_jobs"))
        await engine.lost_claims.doubtful.wait()
        claiming.cancel()

        await engine.lost_claims.look()

    assert ran == []
    assert await database.pool.fetchval("SELECT state = 'available' FROM oban_jobs")


async def test_a_job_that_is_cancelled_before_its_claim_is_answered_never_begins(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal goes another way than the answer, and may be the first to arrive."""
    ran.clear()
    made = await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="noted", args={"n": n}) for n in (1, 2)]
    )
    claim = limited_claims.claim

    async def claim_slowly(*args: Any, **options: Any) -> Claimed:
        claimed = await claim(*args, **options)
        engine.heard(channels.SIGNAL, {"action": "pkill", "job_id": made[0].id})
        return claimed

    monkeypatch.setattr(limited_claims, "claim", claim_slowly)
    acker = Acker(database.pool, Telemetry("worker", "n"))
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads, acker)
        claiming = asyncio.create_task(engine.claim_all(asyncio.Event()))
        await until(lambda: _has(ran, 1))
        claiming.cancel()
        await engine.attempts.drain(1)
        await acker.flush()

    assert ran == [2]
    assert await states(database.pool, *(each.id for each in made)) == ["cancelled", "completed"]


@pytest.mark.parametrize("sign", ["resumed", "reconnected", "relieved"])
async def test_what_may_give_it_jobs_makes_it_look_at_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    monkeypatch.setattr("quarterjack_worker.engine.SILENT", 60.0)
    monkeypatch.setattr("quarterjack_worker.queues.POLL", 60.0)
    monkeypatch.setattr("quarterjack_worker.acker.FULL", 1)
    ran.clear()
    acker = Acker(database.pool, Telemetry("worker", "n"))
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads, acker)
        if sign == "resumed":
            engine.heard(channels.SIGNAL, {"action": "pause", "queue": "default"})
        elif sign == "relieved":
            acker.add(Ack(claim=Claim(10**6, "x"), state="completed"))
        claiming = asyncio.create_task(engine.claim_all(asyncio.Event()))
        await until(lambda: _rests(engine))
        await quarterjack.enqueue(database.pool, "noted", {"n": 1})

        if sign == "resumed":
            engine.heard(channels.SIGNAL, {"action": "resume", "queue": "default"})
        elif sign == "relieved":
            await acker.flush()
        else:
            engine.reconnected()

        await until(lambda: _has(ran, 1))
        claiming.cancel()


async def test_after_a_gap_nothing_that_was_known_before_is_relied_on(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said to be kept may have been followed by a signal that is lost: the next one alike is another."""
    pause = {"action": "pause", "queue": "default"}
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        engine.heard(channels.QUEUES, dict(pause))
        engine.reconnected()
        engine.heard(channels.SIGNAL, dict(pause))

        assert engine._queues.unwritten
        assert engine.lost_claims.doubtful.is_set()


async def test_a_heartbeat_puts_the_next_blind_look_off(database: TestDatabase) -> None:
    """Were it taken all the same, each heartbeat would add looks, every second and for ever."""
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        before = engine._silence

        engine.beaten([])

        assert before.cancelled()
        assert not engine._silence.cancelled()


@pytest.mark.parametrize("more", [True, False])
async def test_ends_make_it_look_only_if_there_may_be_more(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    """Else it would look as often as jobs end, though nothing waits."""
    looked: list[bool] = []
    with ThreadPoolExecutor(1) as threads:
        engine = await engine_of(database, threads)
        queue = engine._queues["default"]
        monkeypatch.setattr(
            engine._claimers[False], "make_room", lambda queue: looked.append(queue.hungry)
        )

        queue.hungry, queue.full = more, False
        engine._ended(queue)
        queue.hungry, queue.full = False, more
        engine._relieved(queue)

    assert looked == [True, True] * more


async def _rests(engine: Engine) -> bool:
    return engine.unready() is None


async def _has(found: list[int], many: int) -> bool:
    return len(found) >= many
