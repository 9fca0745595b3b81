"""The leader's chores: stage, rescue, prune; a strange row never stops them."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from quarterjack.database import Database
from quarterjack.errors import SettingInvalid
from quarterjack.queries import prune, upkeep
from quarterjack_scheduler import retention
from quarterjack_scheduler.upkeep import Rescuer, stage
from tests.conftest import TestDatabase

STATES = "SELECT worker, state::text AS state FROM oban_jobs"
PATIENCE = timedelta(seconds=5)


async def add_job(db: Database, worker: str, **columns: Any) -> int:
    id: int = await db.fetchval(
        """
        INSERT INTO oban_jobs
          (worker, state, attempt, max_attempts, scheduled_at, attempted_at, attempted_by, meta, completed_at)
        SELECT
          $1, coalesce(state, 'available')::oban_job_state, coalesce(attempt, 0), coalesce(max_attempts, 20),
          timezone('UTC', now()) + coalesce(due_in, '0'), timezone('UTC', now()), attempted_by, coalesce(meta, '{}'),
          timezone('UTC', now()) - completed_ago
        FROM jsonb_to_record($2::text::jsonb) AS j (
          state text, attempt integer, max_attempts integer, due_in interval, attempted_by text[], meta jsonb,
          completed_ago interval
        )
        RETURNING id
        """,
        worker,
        json.dumps(columns, default=str),
    )
    return id


async def add_producer(db: Database, *, silent_for: str = "0", state: str = "running") -> UUID:
    uuid = uuid4()
    await db.execute(
        """
        INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, state, heartbeat_at)
        VALUES ($1, 'Oban', 'n', 1, '0', 'default', 5, $2, clock_timestamp() - $3::text::interval)
        """,
        uuid,
        state,
        silent_for,
    )
    return uuid


async def states(database: TestDatabase) -> dict[str, str]:
    return {row["worker"]: row["state"] for row in await database.pool.fetch(STATES)}


async def test_what_is_due_is_staged_and_nothing_else(database: TestDatabase) -> None:
    await add_job(database.pool, "due", state="scheduled", due_in="-1 s")
    await add_job(database.pool, "retried", state="retryable", attempt=3, due_in="-1 s")
    await add_job(database.pool, "later", state="scheduled", due_in="1 h")
    await add_job(database.pool, "suspended", state="suspended", due_in="-1 s")
    async with database.pool.acquire() as db:
        pause = await stage(db)

    assert await states(database) == {
        "due": "available",
        "retried": "available",
        "later": "scheduled",
        "suspended": "suspended",
    }
    assert (
        await database.pool.fetchval("SELECT attempt FROM oban_jobs WHERE worker = 'retried'") == 3
    )
    assert pause is None


async def test_the_stager_of_an_idle_database_rests(database: TestDatabase) -> None:
    async with database.pool.acquire() as db:
        assert await stage(db) is None


async def test_the_stager_rests_until_the_next_instant(database: TestDatabase) -> None:
    await add_job(database.pool, "soon", state="scheduled", due_in="0.5 s")
    async with database.pool.acquire() as db:
        pause = await stage(db)

    assert pause is not None
    assert 0 < pause <= 0.5


async def test_a_strange_row_does_not_stop_staging(database: TestDatabase) -> None:
    most = 2_147_483_647
    await add_job(database.pool, "full", state="retryable", attempt=most, max_attempts=most)
    await add_job(database.pool, "due", state="scheduled")
    held = await add_job(database.pool, "ancient", state="scheduled")
    await database.pool.execute(
        "UPDATE oban_jobs SET scheduled_at = '-infinity' WHERE id = $1", held
    )
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", held)
        async with database.pool.acquire() as db:
            await stage(db)

    assert await states(database) == {
        "full": "available",
        "due": "available",
        "ancient": "scheduled",
    }


@pytest.mark.parametrize(("due_in", "rings"), [("0.4 s", True), ("-1 s", True), ("1 h", False)])
async def test_an_insert_due_before_the_next_look_rings(
    database: TestDatabase, due_in: str, rings: bool
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.qj_due", lambda *said: heard.put_nowait(str(said[3])))

    await add_job(database.pool, "w", state="scheduled", due_in=due_in)
    await database.pool.execute("SELECT pg_notify('public.qj_due', 'end')")

    async with asyncio.timeout(5):
        assert await heard.get() == ("{}" if rings else "end")
    await ear.close()


async def test_the_jobs_of_the_dead_run_again(database: TestDatabase) -> None:
    dead, live = (
        await add_producer(database.pool, state="dead"),
        await add_producer(database.pool, silent_for="1 h"),
    )
    mine = ["n", str(dead), "nonce"]
    await add_job(database.pool, "again", state="executing", attempt=1, attempted_by=mine)
    await add_job(
        database.pool, "last", state="executing", attempt=2, max_attempts=2, attempted_by=mine
    )
    await add_job(
        database.pool, "live", state="executing", attempt=1, attempted_by=["n", str(live), "x"]
    )
    await add_job(database.pool, "foreign", state="executing", attempt=1, attempted_by=mine[:2])

    await upkeep.rescue(database.pool, limit=100)

    assert await states(database) == {
        "again": "available",
        "last": "discarded",
        "live": "executing",
        "foreign": "executing",
    }
    row = await database.pool.fetchrow("SELECT * FROM oban_jobs WHERE worker = 'again'")
    assert row is not None
    assert (row["attempt"], row["meta"]["rescued"], len(row["errors"])) == (1, 1, 1)
    assert row["errors"][0].keys() == {"attempt", "at", "error"}


@pytest.mark.parametrize(
    "meta", [{"rescued": 1e300}, {"rescued": "x"}, {"rescued": -5}, [1], "text", None]
)
async def test_a_strange_meta_does_not_stop_a_rescue(database: TestDatabase, meta: Any) -> None:
    gone = ["n", str(uuid4()), "nonce"]
    await add_job(
        database.pool, "strange", state="executing", attempt=1, attempted_by=gone, meta=meta
    )

    assert len(await upkeep.rescue(database.pool, limit=100)) == 1


async def test_only_the_silent_are_condemned(database: TestDatabase) -> None:
    silent = await add_producer(database.pool, silent_for="6 s")
    live = await add_producer(database.pool, silent_for="4 s")

    found = await upkeep.silent_producers(database.pool, patience=PATIENCE)
    await upkeep.condemn(database.pool, uuids=[silent, live], patience=PATIENCE)

    assert [each.uuid for each in found] == [silent]
    dead = await database.pool.fetch("SELECT uuid FROM qj_producers WHERE state = 'dead'")
    assert [row["uuid"] for row in dead] == [silent]


async def test_nobody_is_condemned_by_a_leader_that_has_just_begun(database: TestDatabase) -> None:
    uuid = await add_producer(database.pool, silent_for="1 h")
    await add_job(
        database.pool, "w", state="executing", attempt=1, attempted_by=["n", str(uuid), "nonce"]
    )

    async with database.pool.acquire() as db:
        await Rescuer().sweep(db)

    assert await states(database) == {"w": "executing"}


async def test_the_first_answer_after_an_outage_condemns_nobody(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be that of the sweep itself, before the worker could beat; one that stays silent is condemned later."""
    clock = [100.0]
    monkeypatch.setattr("quarterjack_scheduler.upkeep.boot", lambda: clock[0])
    rescuer, uuid = Rescuer(), await add_producer(database.pool, silent_for="9 s")
    await add_job(
        database.pool, "w", state="executing", attempt=1, attempted_by=["n", str(uuid), "nonce"]
    )
    for clock[0] in range(100, 120):
        rescuer.saw(orphaned=False)

    async with database.pool.acquire() as db:
        clock[0] = 130.0
        await rescuer.sweep(db)
        assert await states(database) == {"w": "executing"}
        for clock[0] in range(131, 138):
            rescuer.saw(orphaned=True)
        await rescuer.sweep(db)

    assert await states(database) == {"w": "available"}


async def test_a_job_without_attempts_left_is_discarded_with_the_reason(
    database: TestDatabase,
) -> None:
    await add_job(database.pool, "spent", attempt=2, max_attempts=2)
    await add_job(database.pool, "fresh", attempt=1, max_attempts=2)

    await upkeep.discard_exhausted(database.pool)

    assert await states(database) == {"spent": "discarded", "fresh": "available"}


async def test_age_and_count_prune_only_what_has_ended(database: TestDatabase) -> None:
    for worker, ago in (("old", "8 days"), ("young", "1 h"), ("newest", "1 s")):
        await add_job(database.pool, worker, state="completed", completed_ago=ago)
    await add_job(database.pool, "running", state="executing", attempt=1)
    week = timedelta(days=7)

    assert await prune.completed(database.pool, age=week, limit=10) == 1
    assert await prune.beyond(database.pool, state="completed", keep=1, limit=10) == 1
    assert await prune.beyond(database.pool, state="executing", keep=0, limit=10) == 0

    assert await states(database) == {"newest": "completed", "running": "executing"}


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
