"""The leader's chores: stage and rescue; a strange row never stops them."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from quarterjack.clock import boot
from quarterjack.queries import outlook, upkeep
from quarterjack_scheduler.upkeep import Rescuer, stage
from tests.conftest import TestDatabase
from tests.scheduler.rows import add_job, add_producer, states

PATIENCE = timedelta(seconds=5)


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
    await add_job(database.pool, "tried", state="executing", attempt=3, attempted_by=mine)
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
        "tried": "available",
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


async def test_a_job_that_is_just_ending_is_not_rescued(database: TestDatabase) -> None:
    gone = ["n", str(uuid4()), "nonce"]
    for name in ("ending", "left"):
        await add_job(database.pool, name, state="executing", attempt=1, attempted_by=gone)
    async with database.pool.acquire() as worker, worker.transaction():
        await worker.execute("UPDATE oban_jobs SET state = 'completed' WHERE worker = 'ending'")

        async with asyncio.timeout(5):
            await upkeep.rescue(database.pool, limit=100)

    assert await upkeep.rescue(database.pool, limit=100) == []
    assert await states(database) == {"ending": "completed", "left": "available"}


@pytest.mark.parametrize("silent_for", ["6 s", "-1 h"])
async def test_only_the_silent_are_condemned(database: TestDatabase, silent_for: str) -> None:
    """Also who fell silent before the database's clock was set back."""
    silent = await add_producer(database.pool, silent_for=silent_for)
    live = await add_producer(database.pool, silent_for="4 s")

    found = await upkeep.silent_producers(database.pool, patience=PATIENCE)
    seen = await outlook.look(database.pool, patience=PATIENCE)
    await upkeep.condemn(database.pool, uuids=[silent, live], patience=PATIENCE)

    assert seen.orphaned

    assert [each.uuid for each in found] == [silent]
    dead = await database.pool.fetch("SELECT uuid FROM qj_producers WHERE state = 'dead'")
    assert [row["uuid"] for row in dead] == [silent]
    assert await upkeep.silent_producers(database.pool, patience=PATIENCE) == []


async def test_the_dead_are_forgotten_when_no_job_runs_under_their_name(
    database: TestDatabase,
) -> None:
    silent = await add_producer(database.pool, silent_for="1 h")
    fresh = await add_producer(database.pool, state="dead")
    named, gone = [
        await add_producer(database.pool, state="dead", silent_for="1 h") for _ in range(2)
    ]
    for state, uuid in (("executing", named), ("completed", gone)):
        by = ["n", str(uuid), "nonce"]
        await add_job(database.pool, state, state=state, attempt=1, attempted_by=by)

    await upkeep.forget_dead_producers(database.pool)

    left = await database.pool.fetch("SELECT uuid FROM qj_producers")
    assert {row["uuid"] for row in left} == {silent, fresh, named}


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


@pytest.mark.parametrize("told", [True, False])
async def test_a_step_of_the_databases_clock_condemns_nobody(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Whether a beat or the sweep itself is the first to see it; one that stays silent is condemned later."""
    offset = [(await database.row("SELECT extract(epoch FROM now())::float"))[0] - boot()]
    clock = [boot()]
    monkeypatch.setattr("quarterjack_scheduler.upkeep.boot", lambda: clock[0])
    rescuer, uuid = Rescuer(), await add_producer(database.pool, silent_for="9 s")
    await add_job(
        database.pool, "w", state="executing", attempt=1, attempted_by=["n", str(uuid), "nonce"]
    )
    for _ in range(10):
        rescuer.saw(orphaned=False, offset=offset[0] - 9.0)
        clock[0] += 1.0
        offset[0] -= 1.0  # the server's clock is not the test's

    async with database.pool.acquire() as db:
        if told:
            rescuer.saw(orphaned=True, offset=offset[0])
        await rescuer.sweep(db)
        assert await states(database) == {"w": "executing"}
        for _ in range(8):
            clock[0] += 1.0
            offset[0] -= 1.0
            rescuer.saw(orphaned=True, offset=offset[0])
        await rescuer.sweep(db)

    assert await states(database) == {"w": "available"}


async def test_a_job_without_attempts_left_is_discarded_with_the_reason(
    database: TestDatabase,
) -> None:
    await add_job(database.pool, "spent", attempt=2, max_attempts=2)
    await add_job(database.pool, "fresh", attempt=1, max_attempts=2)
    await add_job(database.pool, "last", state="executing", attempt=2, max_attempts=2)

    await upkeep.discard_exhausted(database.pool)

    assert await states(database) == {
        "spent": "discarded",
        "fresh": "available",
        "last": "executing",
    }


async def test_a_spent_job_that_somebody_holds_keeps_no_other_from_being_discarded(
    database: TestDatabase,
) -> None:
    for name in ("held", "free"):
        await add_job(database.pool, name, attempt=1, max_attempts=1)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM oban_jobs WHERE worker = 'held' FOR UPDATE")

        async with asyncio.timeout(5):
            await upkeep.discard_exhausted(database.pool)

    assert await states(database) == {"held": "available", "free": "discarded"}
