"""A backlog of values without room holds up neither claims nor the jobs of other values behind it."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from quarterjack.model import Job
from quarterjack.queries import beyond, limited_claims
from quarterjack.queries.claims import Want
from quarterjack.queries.limited_claims import Look
from quarterjack.queries.limits import Limits
from tests.conftest import TestDatabase
from tests.worker.limited import enqueue, limit
from tests.worker.test_claims import producer

HOURLY = Limits(rate_limit=1, rate_period=timedelta(hours=1), partition_by="tenant")
NOT_HERE = """
UPDATE oban_jobs
SET
  queue = CASE WHEN args ->> 'tenant' = 'elsewhere' THEN 'other' ELSE queue END,
  attempt = CASE WHEN args ->> 'tenant' = 'spent' THEN max_attempts ELSE attempt END
"""
TENANTS = (
    "SELECT args ->> 'tenant' AS tenant FROM unnest($1::bigint[]) AS id JOIN oban_jobs USING (id)"
)


async def claim(
    database: TestDatabase, uuid: UUID, far: Sequence[int] = ()
) -> tuple[list[Job], Look]:
    want = Want(queue="default", producer=uuid, demand=10, limited=True, far=far)
    return await limited_claims.claim_limited(database.pool, want=want, node="n", nonce="x")


@pytest.mark.parametrize("limits", [Limits(global_limit=1, partition_by="tenant"), HOURLY])
async def test_a_claim_looks_so_far_past_a_value_without_room_and_no_further(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    """It would otherwise read the whole backlog: with millions of jobs it would never be answered in time."""
    monkeypatch.setattr(limited_claims, "FARTHEST", 20)
    await limit(database, limits)
    uuid = await producer(database)
    await enqueue(database, "large", 21)
    assert len((await claim(database, uuid))[0]) == 1
    await enqueue(database, "small", 2)

    assert await claimed_of(database, uuid, ()) == ({}, True)
    far = await beyond.first_of_each(database.pool, queue="default")
    assert await claimed_of(database, uuid, far) == ({"small": 1}, True)
    await database.pool.execute("DELETE FROM oban_jobs WHERE args ->> 'tenant' = 'large'")
    assert await claimed_of(database, uuid, ()) == ({}, False)


async def claimed_of(
    database: TestDatabase, uuid: UUID, far: Sequence[int]
) -> tuple[dict[str, int], bool]:
    jobs, look = await claim(database, uuid, far)
    return Counter(job.args["tenant"] for job in jobs), look.crowded


@pytest.mark.parametrize("limits", [Limits(global_limit=1, partition_by="tenant"), HOURLY])
async def test_what_waits_behind_is_looked_for_among_values_that_have_room(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    """Where a thousand values in front have none, those behind them would otherwise never be found."""
    await limit(database, limits)
    for tenant in ("a", "b"):
        await enqueue(database, tenant, 3)
    jobs, _ = await claim(database, await producer(database))
    assert len(jobs) == 2
    await enqueue(database, "elsewhere", 1)
    await enqueue(database, "spent", 1)
    await database.pool.execute(NOT_HERE)
    await enqueue(database, "c", 1)
    monkeypatch.setattr(beyond, "WINDOW", 1)

    far = await beyond.first_of_each(database.pool, queue="default")

    assert [row["tenant"] for row in await database.pool.fetch(TENANTS, far)] == ["c"]


async def test_a_queue_without_partitions_is_never_crowded(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_claims, "FARTHEST", 5)
    await limit(database, Limits(global_limit=3))
    await enqueue(database, "a", 20)

    jobs, look = await claim(database, await producer(database))

    assert (len(jobs), look.held_back, look.crowded) == (3, True, False)
