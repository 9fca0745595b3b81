"""A question that the database never answers, on a connection that stays open, is soon asked on another one."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

import quarterjack
from quarterjack.database import Connection
from quarterjack.queries import acks, claims, limited_claims
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.holding import Holding, are, completed, ran
from tests.worker.test_engine import engine_of

SILENCE = "SELECT pg_sleep(600)"


def fall_silent(
    monkeypatch: pytest.MonkeyPatch, queries: ModuleType, name: str, *, done: bool = False
) -> None:
    """Have a question of ours never be answered, the first time, though it is `done`, or else not even begun."""
    ask, asked = getattr(queries, name), []

    async def first_in_vain(db: Connection, *args: Any, **options: Any) -> Any:
        asked.append(name)
        first = len(asked) == 1
        if first and not done:
            await db.execute(SILENCE)
        answer = await ask(db, *args, **options)
        if first:
            await db.execute(SILENCE)
        return answer

    monkeypatch.setattr(queries, name, first_in_vain)


async def test_a_claim_is_not_waited_for_longer_than_what_it_takes_may_begin(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.claimer.LATE", 0.2)
    ran.clear()
    fall_silent(monkeypatch, limited_claims, "claim")
    await quarterjack.enqueue(database.pool, "noted", {"n": 1})
    with ThreadPoolExecutor(1) as threads:
        claiming = asyncio.create_task(
            (await engine_of(database, threads)).claim_all(asyncio.Event())
        )
        await until(_one_ran)
        claiming.cancel()


async def test_an_outcome_is_written_though_those_before_it_get_no_answer(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.acker.FIRST_PATIENCE", 0.2)
    fall_silent(monkeypatch, acks, "complete", done=True)
    jobs = await holding.claim(2)
    holding.acker.add(completed(holding, jobs[0]))
    writing = asyncio.create_task(holding.acker.run())
    try:
        await until(lambda: are(holding, {"completed": 1, "executing": 1}))
        holding.acker.add(completed(holding, jobs[1]))
        await until(lambda: are(holding, {"completed": 2}))
    finally:
        writing.cancel()
    assert holding.acker.fenced == 0


async def test_a_look_for_lost_claims_that_gets_no_answer_is_repeated(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that was cut off is often not the only victim among the connections of the pool."""
    monkeypatch.setattr("quarterjack_worker.lost_claims.ANSWER_WITHIN", 0.2)
    fall_silent(monkeypatch, claims, "held_by")
    await holding.claim(1)
    holding.lost.cut_off()
    looking = asyncio.create_task(holding.lost.run())
    try:
        await until(lambda: are(holding, {"available": 1}))
    finally:
        looking.cancel()


async def _one_ran() -> bool:
    return len(ran) == 1
