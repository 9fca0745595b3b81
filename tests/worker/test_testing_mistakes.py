"""The testing kit refuses what can only be a mistake, and says so in words."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

import quarterjack
import tests.jobs
from quarterjack import Address, Pool
from quarterjack.model import Enqueued
from quarterjack.testing import advance, enqueued, refute_enqueued
from quarterjack_worker.testing import drain, perform, perform_job

HOUR = timedelta(hours=1)


async def test_only_a_waiting_job_is_run(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, "count")

    with pytest.raises(ValueError, match=f"job {done.id} is completed, attempt 1"):
        await perform_job(quarterjack_pool, done.id)
    with pytest.raises(ValueError, match="not there"):
        await perform_job(quarterjack_pool, done.id + 1)
    with pytest.raises(LookupError, match="import the module"):
        await perform(quarterjack_pool, "no_such_job")


async def test_a_foreign_pool_is_refused(quarterjack_address: Address) -> None:
    async with asyncpg.create_pool(quarterjack_address.url, min_size=1) as pool:
        with pytest.raises(TypeError, match="open it with quarterjack"):
            await drain(pool)


@pytest.mark.parametrize(
    ("said", "ask", "given", "named"),
    [
        ("give the name of a job", refute_enqueued, [tests.jobs.count], {}),
        ("give a dict", refute_enqueued, ["count", tests.jobs.Numbered(1)], {}),
        ("give a datetime", refute_enqueued, ["count"], {"due": "1h"}),
        ("near is 5: give a timedelta", enqueued, ["count"], {"due": HOUR, "near": 5}),
        ("by 60: give a timedelta", advance, [60], {}),
        ("give the `id`", perform_job, [Enqueued(1)], {}),
        ("queue is <function", drain, [tests.jobs.count], {}),
    ],
)
async def test_what_can_only_be_a_mistake_is_refused_in_words(
    quarterjack_pool: Pool,
    said: str,
    ask: Callable[..., Awaitable[object]],
    given: list[object],
    named: dict[str, object],
) -> None:
    with pytest.raises(TypeError, match=said):
        await ask(quarterjack_pool, *given, **named)


async def test_a_connection_is_refused_before_anything_is_enqueued(quarterjack_pool: Pool) -> None:
    perform_on: Any = perform
    async with quarterjack_pool.acquire() as connection:
        with pytest.raises(TypeError, match="is no pool: give one"):
            await perform_on(connection, "count")

    assert await enqueued(quarterjack_pool) == []


@pytest.mark.parametrize("ask", [drain, enqueued])
async def test_a_pool_of_another_event_loop_is_refused_in_words(
    quarterjack_pool: Pool, ask: Callable[..., Coroutine[Any, Any, object]]
) -> None:
    def run() -> object:
        return asyncio.run(ask(quarterjack_pool))

    with pytest.raises(RuntimeError, match="take `quarterjack_address`"):
        await asyncio.to_thread(run)


async def test_an_address_is_refused_where_a_pool_is_meant(quarterjack_address: Address) -> None:
    ask: Any = enqueued
    with pytest.raises(TypeError, match="is no pool and no connection"):
        await ask(quarterjack_address)


async def test_a_job_that_waits_for_others_is_not_run_by_its_id(quarterjack_pool: Pool) -> None:
    first = await quarterjack.enqueue(quarterjack_pool, "count")
    second = await quarterjack.enqueue(quarterjack_pool, "count", after=[first.id])

    with pytest.raises(ValueError, match="is suspended, attempt 0"):
        await perform_job(quarterjack_pool, second.id)
