"""The testing kit tells what is enqueued: asserted, refuted, and shown where that fails."""

from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import asyncpg
import pytest

import quarterjack
import tests.jobs  # noqa: F401 - it registers the job that is performed
from quarterjack import Address
from quarterjack.database import Pool
from quarterjack.testing import assert_enqueued, refute_enqueued
from quarterjack_worker.testing import perform

HOUR = timedelta(hours=1)


async def test_an_enqueued_job_is_found_by_what_matters(quarterjack_pool: Pool) -> None:
    at = datetime.now(UTC) + HOUR
    args = {"to": "ana", "options": {"copies": 2, "pages": [1, 2]}, "token": "x81"}
    made = await quarterjack.enqueue(
        quarterjack_pool, "mail", args, queue="letters", scheduled_at=at
    )

    for wanted in ({}, {"to": "ana"}, {"options": {"copies": 2}}, {"to": ANY, "token": ANY}):
        found = await assert_enqueued(quarterjack_pool, "mail", wanted)
        assert found.id == made.id
    await assert_enqueued(quarterjack_pool, "mail", queue="letters", due=at)
    await assert_enqueued(quarterjack_pool, "mail", due=HOUR)

    for other in ({"to": "bob"}, {"cc": ANY}, {"options": {"pages": [1]}}, {"options": 2}):
        await refute_enqueued(quarterjack_pool, "mail", other)
    await refute_enqueued(quarterjack_pool, "mail", queue="default")
    await refute_enqueued(quarterjack_pool, "mail", due=HOUR + timedelta(minutes=1))
    await refute_enqueued(quarterjack_pool, "post")


async def test_a_failing_assertion_shows_what_waits(quarterjack_pool: Pool) -> None:
    with pytest.raises(AssertionError, match="not enqueued: mail\nno job waits"):
        await assert_enqueued(quarterjack_pool, "mail")
    await quarterjack.enqueue(quarterjack_pool, "mail", {"to": "ana"})

    with pytest.raises(AssertionError) as missing:
        await assert_enqueued(quarterjack_pool, "mail", {"to": "bob"}, queue="letters", due=HOUR)
    with pytest.raises(AssertionError, match="should not be: mail"):
        await refute_enqueued(quarterjack_pool, "mail")

    assert "mail with args {'to': 'bob'} in queue letters due in 1:00:00" in str(missing.value)
    assert "mail with args {'to': 'ana'} in queue default, available" in str(missing.value)


async def test_a_failing_assertion_is_short(quarterjack_pool: Pool) -> None:
    await quarterjack.enqueue(quarterjack_pool, "mail", {"body": "x" * 100_000})

    with pytest.raises(AssertionError, match=r"mail with args .* in queue default") as missing:
        await assert_enqueued(quarterjack_pool, "mail", {"body": "y" * 100_000})

    assert len(str(missing.value)) < 5_000


async def test_what_is_enqueued_is_seen_inside_the_transaction_of_any_connection(
    quarterjack_address: Address,
) -> None:
    connection = await asyncpg.connect(quarterjack_address.url)
    try:
        async with connection.transaction():
            await quarterjack.enqueue(connection, "mail", {"to": "ana"}, meta={"a": [1]})

            found = await assert_enqueued(connection, "mail", {"to": "ana"})
    finally:
        await connection.close()

    assert found.meta == {"a": [1]}


async def test_what_has_ended_is_not_enqueued(quarterjack_pool: Pool) -> None:
    await perform(quarterjack_pool, "count")

    await refute_enqueued(quarterjack_pool, "count")
