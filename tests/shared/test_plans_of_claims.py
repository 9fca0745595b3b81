"""What a worker asks for each batch must look at no more rows than the batch has, whatever the planner believes."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from quarterjack.database import Connection
from quarterjack.queries import acks, claims, limited_claims, limits
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Want
from quarterjack.queries.limited_claims import WINDOW
from quarterjack.queries.limits import Limits
from tests.conftest import TestDatabase

BATCH = 500
A_FEW = 15
"""How many nodes of a plan may each pass a row of the batch on."""
FILL = """
INSERT INTO oban_jobs (worker, state, args)
SELECT 'w', state::oban_job_state, jsonb_build_object('tenant', n % 100)
FROM generate_series(1, $1::integer / 2) AS n, (VALUES ('available'), ('completed')) AS s (state)
"""
PRODUCER = """
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit)
VALUES ($1, 'Oban', 'n', 1, '1', 'default', 1000)
"""


class Explaining:
    """A connection that keeps the plan of each statement it is given, and counts the rows that it looked at."""

    def __init__(self, connection: Connection, *answer: dict[str, Any]) -> None:
        self.plans: list[str] = []
        self.looked_at: list[int] = []
        self._answer = list(answer)
        self._connection = connection

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        db = self._connection
        await db.execute(f"PREPARE asked AS {statement}")
        types = await db.fetchval(
            "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'asked'"
        )
        literals = [
            await db.fetchval(f"SELECT quote_nullable(($1::{type})::text)", argument)
            for type, argument in zip(types, arguments, strict=True)
        ]
        text = await db.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({', '.join(literals)})"
        )
        await db.execute("DEALLOCATE asked")
        [explained] = json.loads(text) if isinstance(text, str) else text
        self.plans.append(json.dumps(explained))
        self.looked_at.append(sum(map(_looked_at, _nodes(explained["Plan"]))))
        return self._answer


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _looked_at(node: dict[str, Any]) -> int:
    left = sum(count for name, count in node.items() if name.startswith("Rows Removed"))
    return int((node["Actual Rows"] + left) * node["Actual Loops"])


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("analysed", [True, False])
@pytest.mark.parametrize("rows", [20_000, 100_000])
async def test_a_batch_looks_at_a_few_rows_for_each_of_its_own(
    database: TestDatabase, rows: int, analysed: bool, plans: str
) -> None:
    want = Want(queue="default", producer=uuid4(), demand=BATCH)
    async with database.pool.acquire() as db:
        await db.execute("ALTER TABLE oban_jobs SET (autovacuum_enabled = false)")
        await db.execute(FILL, rows)
        await db.execute(PRODUCER, want.producer)
        if analysed:
            await db.execute("ANALYZE oban_jobs")
        await db.execute(f"SET plan_cache_mode = {plans}")
        explaining: Any = Explaining(db)

        await claims.claim(explaining, wants=[want], node="n", nonce="1")
        held = list(await claims.held_by(db, producers=[want.producer]))
        await claims.held_by(explaining, producers=[want.producer])
        completed, acked, released = held[:200], held[200:400], held[400:]
        outcomes = [Ack(claim=claim, state="retryable", error="e", delay=60.0) for claim in acked]
        await acks.complete(explaining, completed)
        await acks.ack(explaining, outcomes)
        await acks.landed(explaining, outcomes)
        await claims.release(explaining, claims=released)

        counted: Any = await db.fetch("SELECT state::text, count(*) FROM oban_jobs GROUP BY state")
    assert dict(counted) == {
        "available": rows // 2 - 400, "completed": rows // 2 + 200, "retryable": 200
    }  # fmt: skip
    assert all(each <= A_FEW * BATCH for each in explaining.looked_at), explaining.looked_at


SAW = {"id": None, "left": True, "crowded": True, "full": True, "room_in": None}


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize(("partition_by", "running"), [(None, 50), ("tenant", BATCH)])
async def test_a_claim_within_limits_looks_no_further_than_its_window_and_at_what_it_is_given(
    database: TestDatabase, partition_by: str | None, running: int, plans: str
) -> None:
    far = range(50_000, 50_000 + WINDOW)
    want = Want(queue="default", producer=uuid4(), demand=BATCH, limited=True, far=far)
    async with database.pool.acquire() as db:
        await db.execute(FILL, 100_000)
        await db.execute(PRODUCER, want.producer)
        within = Limits(global_limit=50, partition_by=partition_by)
        await limits.limit(db, "default", within, by="ana", reason="r")
        await db.execute("ANALYZE oban_jobs")
        await db.execute(f"SET plan_cache_mode = {plans}")
        explaining: Any = Explaining(db, SAW)

        await limited_claims.claim_limited(explaining, want=want, node="n", nonce="1")

        executing = await db.fetchval("SELECT count(*) FROM oban_jobs WHERE state = 'executing'")
    assert executing == running
    assert explaining.looked_at[0] <= A_FEW * 2 * len({*range(WINDOW), *far})


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
async def test_full_partitions_are_not_compared_with_each_job_one_by_one(
    database: TestDatabase, plans: str
) -> None:
    """With ten thousand of them a claim would take seconds."""
    want = Want(queue="default", producer=uuid4(), demand=BATCH, limited=True)
    async with database.pool.acquire() as db:
        await db.execute(FILL, 20_000)
        await db.execute(PRODUCER, want.producer)
        hourly = Limits(rate_limit=1, rate_period=timedelta(hours=1), partition_by="tenant")
        await limits.limit(db, "default", hourly, by="ana", reason="r")
        await db.execute(
            """
            INSERT INTO qj_rates
            SELECT 'default', n::text, clock_timestamp() + interval '1 hour' FROM generate_series(1, 10000) AS n
            """
        )
        await db.execute("ANALYZE oban_jobs, qj_rates")
        await db.execute(f"SET plan_cache_mode = {plans}")
        explaining: Any = Explaining(db, SAW)

        await limited_claims.claim_limited(explaining, want=want, node="n", nonce="1")

        executing = await db.fetchval("SELECT count(*) FROM oban_jobs WHERE state = 'executing'")
    assert executing == 1
    assert "hashed SubPlan" in explaining.plans[0]
