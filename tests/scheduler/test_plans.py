"""The leader takes over the version that it read, and waits for nobody."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from quarterjack.database import Database
from quarterjack.queries import plans
from tests.conftest import TestDatabase
from tests.scheduler.replica import HOLDER, add_schedule, lead

FIRST = "2030-01-01T00:00:00+00:00"


async def plan(db: Database, term: int, holder: UUID = HOLDER, **changes: Any) -> set[int]:
    [row] = await plans.unplanned(db, limit=10)
    wanted = {
        **{"id": row.id, "version": row.version, "updated_at": row.updated_at.isoformat()},
        **{"next_run_at": FIRST, "broken_reason": None},
    }
    return await plans.plan(db, holder=holder, term=term, node="n", plans=[wanted | changes])


async def test_a_new_schedule_is_taken_over_once(database: TestDatabase) -> None:
    term, id = await lead(database.pool), await add_schedule(database.pool, "s")

    assert await plan(database.pool, term) == {id}
    assert await plans.unplanned(database.pool, limit=10) == []


@pytest.mark.parametrize("stale", ["version", "instant", "term"])
async def test_what_was_not_read_is_not_taken_over(database: TestDatabase, stale: str) -> None:
    term, _ = await lead(database.pool), await add_schedule(database.pool, "s")

    if stale == "version":
        assert await plan(database.pool, term, version=9) == set()
    elif stale == "instant":
        assert await plan(database.pool, term, updated_at=FIRST) == set()
    else:
        assert await plan(database.pool, term + 1) == set()


async def test_a_held_schedule_is_passed_over(database: TestDatabase) -> None:
    term, id = await lead(database.pool), await add_schedule(database.pool, "s")
    [row] = await plans.unplanned(database.pool, limit=10)
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM qj_schedules FOR UPDATE")

        async with asyncio.timeout(5):
            assert await plan(database.pool, term) == set()
            await plans.mark_broken(
                database.pool,
                holder=HOLDER,
                term=term,
                id=id,
                version=1,
                updated_at=row.updated_at,
                reason="x",
            )


async def test_a_held_pause_that_has_run_out_is_passed_over(database: TestDatabase) -> None:
    for name in ("held", "free"):
        await add_schedule(database.pool, name)
    await database.pool.execute("UPDATE qj_schedules SET paused_at = now(), resume_at = now()")
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM qj_schedules WHERE name = 'held' FOR UPDATE")

        async with asyncio.timeout(5):
            assert await plans.resume_due(database.pool) == ["free"]
