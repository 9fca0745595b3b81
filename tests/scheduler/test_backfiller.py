"""The leader's loop for backfills: to the end of the range, held up by a freeze, ended with the reason."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from quarterjack.queries import holds
from quarterjack_scheduler.backfill import Backfiller
from tests.conftest import TestDatabase
from tests.scheduler.replica import Replica, replica
from tests.scheduler.test_backfill import STATE, fill, hours, let_it_step, made
from tests.waiting import until

TAKEN_OVER = "SELECT bool_and(applied_version IS NOT DISTINCT FROM version) FROM qj_schedules"


@pytest.fixture
async def leader(database: TestDatabase) -> AsyncIterator[Replica]:
    """A replica that leads."""

    async def leads() -> bool:
        return running.election.term is not None

    async with replica(database.address) as running:
        await until(leads)
        yield running


async def step(database: TestDatabase, leader: Replica) -> float | None:
    async with database.pool.acquire() as db:
        return await Backfiller(leader.election).step(db)


@pytest.mark.parametrize("changes", [{}, {"overlap": "skip"}, {"uniqueness": {}}, {"paused": True}])
async def test_every_tick_of_the_range_becomes_a_job(
    database: TestDatabase, leader: Replica, changes: dict[str, Any]
) -> None:
    await fill(database, **changes)

    pauses = []
    for _ in range(3):
        pauses.append(await step(database, leader))
        await let_it_step(database)

    assert pauses == [1.0, 1.0, 0.5]
    assert await made(database) == hours(0, 1, 2, 3, 4)
    assert tuple(await database.row(STATE)) == ("done", 5, None, None, False)
    assert await step(database, leader) is None


async def test_a_step_before_its_time_waits(database: TestDatabase, leader: Replica) -> None:
    await fill(database, per_minute=60)
    await step(database, leader)

    assert 0 < (await step(database, leader) or 0) <= 1.0
    assert await made(database) == hours(0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("DELETE FROM qj_schedules", "its schedule was deleted"),
        (
            "UPDATE qj_schedules SET broken_reason = 'no such zone', applied_version = version",
            "its schedule is set aside: no such zone",
        ),
        ("DELETE FROM qj_schedule_versions", "is gone"),
        (
            "UPDATE qj_backfills SET next_tick_at = to_at",
            "its calendar has no tick left, though the dry run counted more",
        ),
    ],
)
async def test_a_backfill_that_cannot_go_on_ends_and_stops_no_other(
    database: TestDatabase, leader: Replica, change: str, why: str
) -> None:
    await fill(database)
    await until(lambda: database.pool.fetchval(TAKEN_OVER))
    await database.pool.execute(change)
    await fill(database, "other")
    await until(lambda: database.pool.fetchval(TAKEN_OVER))

    await step(database, leader)

    ended = await database.row(f"{STATE} ORDER BY id")
    assert (ended["state"], ended["made"]) == ("failed", 0)
    assert why in ended["ended_why"]
    assert len(await made(database)) == 2


async def test_a_frozen_system_makes_none_until_it_thaws(
    database: TestDatabase, leader: Replica
) -> None:
    await fill(database)
    await holds.freeze(database.pool, by="ana", reason="fire")
    await step(database, leader)
    frozen = await made(database)
    await holds.thaw(database.pool)

    await step(database, leader)

    assert (frozen, len(await made(database))) == ([], 2)
