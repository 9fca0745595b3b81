"""Whatever the network loses, each tick is decided once and somebody goes on."""

import pytest

from tests.conftest import TestDatabase
from tests.proxy import proxied
from tests.scheduler.replica import add_schedule, replica
from tests.scheduler.test_tick_loop import GRID, fired
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres


async def test_lost_replies_double_no_tick_and_lose_none(database: TestDatabase) -> None:
    for number in range(5):
        await add_schedule(database.pool, f"s{number}")
    async with proxied(database.address) as (proxy, through), replica(through):
        await until(lambda: fired(database, "s0", 1), within=20)
        proxy.cut_after = 17
        await until(lambda: _cut(proxy.cuts >= 4), within=30)
        proxy.cut_after = None
        now = await database.pool.fetchval("SELECT clock_timestamp()")
        await until(
            lambda: database.pool.fetchval("SELECT min(next_run_at) > $1 FROM qj_schedules", now),
            within=20,
        )

    rows = await database.pool.fetch(GRID)
    assert [(row["whole"], row["single"]) for row in rows] == [(True, True)] * 5
    assert await database.pool.fetchval(
        "SELECT count(*) = (SELECT count(*) FROM qj_ticks) FROM oban_jobs"
    )


async def test_a_leader_that_hears_nothing_is_followed_and_recovers(database: TestDatabase) -> None:
    await add_schedule(database.pool, "s")
    async with proxied(database.address) as (proxy, through), replica(through, "deaf") as deaf:
        await until(lambda: fired(database, "s", 1))
        async with replica(database.address, "other") as other:
            proxy.deaf = True
            await until(lambda: _cut(other.election.term is not None), within=20)
            decided = await database.pool.fetchval("SELECT count(*) FROM qj_ticks")
            await until(lambda: fired(database, "s", decided + 2))
            proxy.deaf = False
        term = other.election.peer.uuid
        await until(lambda: _cut(deaf.election.term is not None), within=20)
        decided = await database.pool.fetchval("SELECT count(*) FROM qj_ticks")

        await until(lambda: fired(database, "s", decided + 2), within=20)

    [grid] = await database.pool.fetch(GRID)
    assert (grid["whole"], grid["single"]) == (True, True)
    assert await database.pool.fetchval("SELECT count(*) > 0 FROM qj_ticks WHERE holder = $1", term)


async def _cut(value: bool) -> bool:
    return value
