"""What another session holds keeps no other job from going back, and goes back when it is free."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from quarterjack.clock import boot
from quarterjack.queries import producers
from quarterjack_worker import supervisor
from quarterjack_worker.marks import waiting
from quarterjack_worker.settings import Settings
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.holding import Holding, are, ran

STATES = """
SELECT state::text, attempt, cardinality(errors) AS errors FROM oban_jobs ORDER BY id
"""
KILLED = supervisor.Death(how="it was killed", own_fault=False)
SETTINGS = Settings(modules=(), queues={"default": 10}, processes=1, grace=1.0)


@asynccontextmanager
async def first_held(database: TestDatabase) -> AsyncIterator[None]:
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM oban_jobs ORDER BY id LIMIT 1 FOR UPDATE")
        yield


async def states(database: TestDatabase) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await database.pool.fetch(STATES)]


async def second_is_free(database: TestDatabase) -> bool:
    return bool((await states(database))[1][0] == "available")


async def test_a_held_claim_goes_back_after_the_others(
    database: TestDatabase, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.lost_claims.AGAIN", 0.01)
    holding.queue.paused = True
    looking = asyncio.create_task(holding.lost.run())
    jobs = await holding.claim(2)
    try:
        async with first_held(database):
            holding.attempts.take(jobs, asked_at=boot())
            await until(lambda: are(holding, {"available": 1, "executing": 1}))
        await until(lambda: are(holding, {"available": 2}))
    finally:
        looking.cancel()
    assert ran == []


async def test_an_orderly_end_waits_for_what_is_held(
    database: TestDatabase, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    life = uuid4()
    await _claim_for(database, holding, life)
    async with first_held(database):
        settling = asyncio.create_task(supervisor.settle(SETTINGS, life, None, waiting(None)))
        await until(lambda: second_is_free(database))
    await settling

    assert await states(database) == [("available", 0, 0)] * 2
    assert not await database.pool.fetch("SELECT FROM qj_producers WHERE uuid = $1", _own(life))


async def test_the_next_life_does_not_wait_for_what_is_held(
    database: TestDatabase, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its producer is dead: the leader will rescue it."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setattr(supervisor, "AGAIN", 0.01)
    monkeypatch.setattr(supervisor, "GIVE_UP", 600.0)
    life = uuid4()
    await _claim_for(database, holding, life)
    async with first_held(database):
        await supervisor.settle(SETTINGS, life, KILLED, waiting(None))

        assert await states(database) == [("executing", 1, 0), ("available", 1, 1)]
    assert await database.pool.fetchval(
        "SELECT state = 'dead' FROM qj_producers WHERE uuid = $1", _own(life)
    )


async def _claim_for(database: TestDatabase, holding: Holding, life: Any) -> None:
    own = _own(life)
    await producers.register(
        database.pool,
        node="n",
        pid=1,
        version="1",
        name="Q",
        producers=[
            producers.Producing(uuid=own, queue="default", limit=10, running=0, paused=False)
        ],
    )
    holding.queue.producer = own
    assert len(await holding.claim(2)) == 2


def _own(life: Any) -> Any:
    return SETTINGS.producers(life)["default"]
