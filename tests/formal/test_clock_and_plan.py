"""Rules that the scheduler's own tests leave open: whose clock it is, and what a plan may not move."""

from datetime import datetime, timedelta, tzinfo

import pytest

from quarterjack.queries import clock, plans
from quarterjack_scheduler import election
from tests.conftest import TestDatabase
from tests.scheduler.replica import HOLDER, add_schedule, due, lead, replica
from tests.waiting import until

HOUR = timedelta(hours=1)
FIRED = "SELECT count(*) > 0 FROM qj_ticks"
LATENESS = (
    "SELECT min(decided_at - tick_at) AS least, max(decided_at - tick_at) AS most FROM qj_ticks"
)


@pytest.mark.parametrize("node", ["ahead", "behind"])
async def test_a_wrong_clock_of_a_node_changes_nothing(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    class WrongClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "WrongClock":
            return super().now(tz) + (HOUR if node == "ahead" else -HOUR)

    monkeypatch.setattr(election, "datetime", WrongClock)
    await add_schedule(database.pool, "s")
    async with replica(database.address) as leader:
        await until(lambda: _leads(leader.election))
        assert abs(leader.election.database_now() - await clock.now(database.pool)) < HOUR / 2
        await until(lambda: database.pool.fetchval(FIRED))

    lateness = await database.row(LATENESS)
    assert timedelta(0) <= lateness["least"] <= lateness["most"] < HOUR / 2


async def test_a_repeated_plan_leaves_the_watermark(database: TestDatabase) -> None:
    term, id = await lead(database.pool), await add_schedule(database.pool, "s")
    first = await clock.now(database.pool)
    [row] = await plans.unplanned(database.pool, limit=1)
    plan = {
        **{"id": id, "version": 1, "updated_at": row.updated_at.isoformat()},
        **{"next_run_at": first.isoformat(), "broken_reason": None},
    }
    await plans.plan(database.pool, holder=HOLDER, term=term, node="n", plans=[plan])
    await database.pool.execute(
        "UPDATE qj_schedules SET next_run_at = next_run_at + interval '1 h'"
    )

    await plans.plan(database.pool, holder=HOLDER, term=term, node="n", plans=[plan])

    assert (await due(database.pool, "s")).next_run_at == first + HOUR


async def test_a_plan_begins_after_the_last_tick(database: TestDatabase) -> None:
    last = await clock.now(database.pool) + HOUR
    await add_schedule(database.pool, "s", next_run_at=(last + HOUR).isoformat())
    await database.pool.execute(
        "UPDATE qj_schedules SET planned_from = now(), last_tick_at = $1", last
    )
    await database.pool.execute("UPDATE qj_schedules SET cron = '*/5 * * * * *'")

    [row] = await plans.unplanned(database.pool, limit=10)

    assert row.planned_from == last


async def _leads(which: election.Election) -> bool:
    return which.term is not None
