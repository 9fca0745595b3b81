"""What is old is pruned: jobs by age and count, and what the scheduler notes about itself."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from quarterjack.errors import SettingInvalid
from quarterjack.queries import prune
from quarterjack_scheduler import retention, upkeep
from quarterjack_scheduler.retention import Keep, Retention
from quarterjack_scheduler.upkeep import Pruner
from tests.conftest import TestDatabase
from tests.scheduler.rows import add_job, states

WEEK = timedelta(days=7)
OLD = """
UPDATE oban_jobs
SET attempted_at = 'epoch', completed_at = 'epoch', cancelled_at = 'epoch', discarded_at = 'epoch'
"""
FILL = """
INSERT INTO oban_jobs (state, worker, args, completed_at, cancelled_at, discarded_at)
SELECT $1::text::oban_job_state, n, '{}', now(), now(), now() FROM generate_series(1, $2::integer) AS n
"""


async def test_age_and_count_prune_only_what_has_ended(database: TestDatabase) -> None:
    for worker, ago in (("old", "8 days"), ("young", "1 h"), ("newest", "1 s")):
        await add_job(database.pool, worker, state="completed", completed_ago=ago)
    await add_job(database.pool, "running", state="executing", attempt=1)

    assert await prune.completed(database.pool, age=WEEK, limit=10) == 1
    beyond = await prune.newest_beyond(database.pool, state="completed", keep=1)
    assert beyond is not None
    assert await prune.newest_beyond(database.pool, state="completed", keep=2) is None
    assert await prune.newest_beyond(database.pool, state="executing", keep=0) is None
    assert await prune.up_to(database.pool, state="completed", id=beyond, limit=10) == 1
    assert await prune.up_to(database.pool, state="executing", id=2**62, limit=10) == 0

    assert await states(database) == {"newest": "completed", "running": "executing"}


@pytest.mark.parametrize(
    ("state", "pruned_by"),
    [
        ("completed", partial(prune.completed, age=WEEK)),
        ("cancelled", partial(prune.cancelled, age=WEEK)),
        ("discarded", partial(prune.discarded, age=WEEK)),
        ("completed", partial(prune.up_to, state="completed", id=2**62)),
    ],
)
async def test_a_job_that_was_or_is_just_being_retried_is_not_pruned(
    database: TestDatabase, state: str, pruned_by: Callable[..., Coroutine[Any, Any, int]]
) -> None:
    """Nor is the latter waited for: it would be deleted then."""
    for name in ("retried", "left"):
        await add_job(database.pool, name, state=state)
    await add_job(database.pool, "waits")
    await database.pool.execute(OLD)
    async with database.pool.acquire() as person, person.transaction():
        await person.execute("UPDATE oban_jobs SET state = 'available' WHERE worker = 'retried'")

        async with asyncio.timeout(5):
            assert await pruned_by(database.pool, limit=10) == 1

    assert await states(database) == {"retried": "available", "waits": "available"}


async def test_the_newest_of_each_state_stay_and_the_others_go_in_slices(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for state, count in (("completed", 7), ("cancelled", 3), ("discarded", 2), ("available", 4)):
        await database.pool.execute(FILL, state, count)
    monkeypatch.setattr(upkeep, "PRUNE_LIMIT", 2)
    keep = Keep(age=timedelta(days=1), count=2)
    pruner = Pruner(Retention(completed=keep, cancelled=keep, discarded=keep), own_traces=False)

    async with database.pool.acquire() as connection:
        while await pruner.prune(connection) < upkeep.PRUNE_EVERY:
            assert await database.pool.fetchval("SELECT count(*) > 10 FROM oban_jobs")

    left = await database.pool.fetch("SELECT state::text, worker FROM oban_jobs ORDER BY id")
    assert [(job["state"], job["worker"]) for job in left] == [
        *(("completed", "6"), ("completed", "7"), ("cancelled", "2"), ("cancelled", "3")),
        *(("discarded", "1"), ("discarded", "2")),
        *(("available", each) for each in "1234"),
    ]


async def test_the_ledger_is_pruned_below_the_watermark(database: TestDatabase) -> None:
    id = await database.pool.fetchval(
        "INSERT INTO qj_schedules (name, worker, cron, next_run_at) VALUES ('s', 'w', '* * * * *', now())"
        " RETURNING id"
    )
    await database.pool.execute(
        """
        INSERT INTO qj_ticks (schedule_id, tick_at, outcome, version, decided_at)
        SELECT $1, now() + at, 'enqueued', 1, now() - age
        FROM (VALUES ('-40 days'::interval, '40 days'::interval), ('-1 h', '1 h'), ('1 h', '40 days')) AS t (at, age)
        """,
        id,
    )

    assert await prune.ledger(database.pool, age=timedelta(days=35), limit=10) == 1


async def test_old_terms_backfills_and_losses_are_pruned(database: TestDatabase) -> None:
    """The term that led 35 days ago ended within them, so it stays, like all after it."""
    await database.pool.execute(
        """
        INSERT INTO qj_terms (term, holder, node, acquired_at)
        SELECT term, gen_random_uuid(), 'n', now() - age
        FROM (VALUES (101, '90 days'::interval), (102, '40 days'), (103, '1 day')) AS t (term, age);
        INSERT INTO qj_lost_ticks (schedule_id, tick_at, decided_at, reported_by, reported_at)
        SELECT 1, now() - age, now() - age, 'n', now() - age
        FROM (VALUES ('36 days'::interval), ('34 days')) AS t (age);
        INSERT INTO qj_backfills
          (request_id, schedule_id, version, from_at, to_at, per_minute, ticks, state, next_tick_at, requested_by,
           reason, requested_at, ended_at)
        SELECT age::text, 1, 1, now() - '99 d'::interval, now() - '98 d'::interval, 1, 1, state,
          now() - '98 d'::interval, 'ana', 'x', now() - '97 d'::interval,
          CASE WHEN state <> 'running' THEN now() - age END
        FROM (VALUES ('36 days'::interval, 'stopped'), ('34 days', 'stopped'), ('50 days', 'running')) AS t (age, state)
        """
    )

    for forget in (prune.leaderships, prune.losses, prune.backfills):
        await forget(database.pool, age=timedelta(days=35))

    terms = await database.pool.fetch("SELECT term FROM qj_terms WHERE term > 100 ORDER BY term")
    assert [record["term"] for record in terms] == [102, 103]
    assert await database.pool.fetchval("SELECT count(*) FROM qj_lost_ticks") == 1
    left = await database.pool.fetch("SELECT request_id FROM qj_backfills ORDER BY 1")
    assert [record["request_id"] for record in left] == ["34 days", "50 days"]


async def test_a_step_that_is_refused_keeps_no_other_from_being_taken(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    await add_job(database.pool, "old", state="completed", completed_ago="8 days")
    await database.pool.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          RAISE EXCEPTION 'not yours' USING ERRCODE = 'insufficient_privilege';
        END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON oban_jobs FOR EACH ROW EXECUTE FUNCTION refuse();
        INSERT INTO qj_peers (uuid, node, pid, version, started_at, heartbeat_at)
        VALUES (gen_random_uuid(), 'gone', 1, '0', now(), now() - interval '1 day')
        """
    )

    async with database.pool.acquire() as db:
        await Pruner(retention.from_environment(), own_traces=False).prune(db)

    assert await database.pool.fetchval("SELECT count(*) FROM qj_peers") == 0
    assert [record.getMessage() for record in caplog.records] == [
        "could not prune: not yours; going on"
    ]


@pytest.mark.parametrize("text", ["", "7", "0d", "7d -1", "7 d", "7d 1 1", "1e3d"])
def test_a_retention_that_cannot_be_meant_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("QUARTERJACK_KEEP_COMPLETED", text)

    with pytest.raises(SettingInvalid, match="QUARTERJACK_KEEP_COMPLETED"):
        retention.from_environment()


def test_a_retention_is_an_age_and_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERJACK_KEEP_DISCARDED", "36h 5")

    keep = retention.from_environment().discarded

    assert (keep.age, keep.count) == (timedelta(hours=36), 5)
