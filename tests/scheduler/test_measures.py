"""A scheduler's `/metrics`: what it decided, and what waits in the queues while it leads."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from quarterjack.clock import boot
from quarterjack.queries.ticks import Struck
from quarterjack_scheduler import measures
from quarterjack_scheduler.measures import Backlog, Tally
from tests.conftest import TestDatabase
from tests.processes import SCHEDULER, cluster, free_port
from tests.scheduler.replica import add_schedule
from tests.spec.test_health import ask
from tests.waiting import until

WAITING = """
INSERT INTO oban_jobs (state, queue, worker, args, priority, scheduled_at)
SELECT 'available', 'mail', 'w', '{}', p, timezone('UTC', now()) - make_interval(secs => 90 * p)
FROM unnest(ARRAY[0, 1, 2]) AS p
"""
AT = datetime(2026, 11, 30, tzinfo=UTC)


async def test_the_leader_alone_tells_how_long_the_queues_wait(database: TestDatabase) -> None:
    await database.pool.execute(WAITING)
    await add_schedule(database.pool, "s", cron="* * * * * *", overlap="allow", queue="a")
    first, second = free_port(), free_port()
    async with cluster(database) as running:
        for name, port in (("one", first), ("two", second)):
            await running.start(name, *SCHEDULER, env={"QUARTERJACK_HEALTH": str(port)})
        told = await until(lambda: _told_apart(first, second), within=20)

    assert told is not None
    leader, follower = told
    assert 'quarterjack_queue_available_jobs{queue="mail"} 3\n' in leader
    assert 'quarterjack_queue_running_jobs{queue="mail"} 0\n' in leader
    assert 'quarterjack_queue_limit{queue="mail"} 0\n' in leader
    oldest = re.search(r'quarterjack_queue_oldest_job_seconds{queue="mail"} ([0-9.]+)\n', leader)
    assert oldest is not None
    assert 180 <= float(oldest[1]) < 240
    assert re.search(r'quarterjack_scheduler_ticks_total{outcome="enqueued"} [1-9]', leader)
    assert "quarterjack_queue" not in follower
    assert "quarterjack_scheduler_ticks_total" not in follower


async def _told_apart(first: int, second: int) -> tuple[str, str] | None:
    """Give the leader's measures, once it has looked and decided, and the follower's."""
    one, two = [
        f"{(await ask(f'http://127.0.0.1:{port}/metrics'))[1]}\n" for port in (first, second)
    ]
    for leader, follower in ((one, two), (two, one)):
        knows = "quarterjack_queue_limit" in leader and "ticks_total" in leader
        if knows and "quarterjack_scheduler_leads 0\n" in follower:
            assert "quarterjack_scheduler_leads 1\n" in leader
            return leader, follower
    return None


async def test_what_was_seen_long_ago_is_not_told(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.pool.execute(WAITING)
    backlog = Backlog()
    async with database.pool.acquire() as connection:
        assert await backlog.look(connection) == measures.EVERY

    fresh = [each.queue for each in backlog.standings]
    seen_at = boot()
    monkeypatch.setattr(measures, "boot", lambda: seen_at + measures.STALE)

    assert fresh == ["mail"]
    assert not backlog.standings


def test_ticks_are_counted_by_outcome_with_their_lateness() -> None:
    tally = Tally()

    tally.note([_struck("enqueued", 0.5), _struck("skipped_overlap", 2)])
    tally.note([_struck("enqueued", 1)])

    assert tally.ticks == {"enqueued": 2, "skipped_overlap": 1}
    assert tally.late == {"enqueued": 1.5, "skipped_overlap": 2}


def _struck(outcome: str, late: float) -> Struck:
    return Struck(
        schedule_id=1,
        tick_at=AT,
        outcome=outcome,
        reason=None,
        job_id=None,
        queue="a",
        decided_at=AT + timedelta(seconds=late),
        stopped=[],
    )
