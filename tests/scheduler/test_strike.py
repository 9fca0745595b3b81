"""The one statement that decides ticks: compare-and-set, fence, never early, and nothing half."""

import asyncio
import json
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

import quarterjack
from quarterjack import Unique
from quarterjack.queries import clock, lease
from tests.conftest import TestDatabase
from tests.scheduler.replica import HOLDER, add_schedule, due, judge, lead, ready, strike
from tests.waiting import until

JOBS = "SELECT count(*) FROM oban_jobs"
LEDGER = "SELECT tick_at, outcome, reason, job_id, term, holder FROM qj_ticks ORDER BY tick_at"


async def test_a_tick_makes_one_job_and_one_line(database: TestDatabase) -> None:
    term = await lead(database.pool)
    id = await ready(database, args={"a": 1}, queue="reports")

    held, [struck] = await strike(database.pool, await judge(database.pool, "s"), term=term)

    job = await database.pool.fetchrow("SELECT * FROM oban_jobs")
    [line] = await database.pool.fetch(LEDGER)
    assert held
    assert job is not None
    assert (job["id"], job["queue"], job["args"]) == (struck.job_id, "reports", {"a": 1})
    assert (job["state"], job["attempt"], job["meta"]["schedule_id"]) == ("available", 0, id)
    assert job["scheduled_at"] == struck.tick_at.replace(tzinfo=None)
    assert tuple(line) == (struck.tick_at, "enqueued", None, job["id"], term, HOLDER)


async def test_a_repeated_request_moves_nothing(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    await strike(database.pool, verdict, term=term)

    assert await strike(database.pool, verdict, term=term) == (True, [])
    assert await database.pool.fetchval(JOBS) == 1


async def test_of_concurrent_requests_one_moves(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")

    found = await asyncio.gather(*(strike(database.pool, verdict, term=term) for _ in range(8)))

    assert sorted(len(struck) for _, struck in found) == [0] * 7 + [1]
    assert await database.pool.fetchval(JOBS) == 1


async def test_nothing_is_decided_before_its_instant(database: TestDatabase) -> None:
    term = await lead(database.pool)
    at = await clock.now(database.pool) + timedelta(minutes=5)
    await add_schedule(database.pool, "s", next_run_at=at.isoformat())

    verdict = await judge(database.pool, "s", at)

    assert await strike(database.pool, verdict, term=term) == (True, [])
    assert await database.pool.fetchval(JOBS) == 0


@pytest.mark.parametrize("which", ["term", "own_old_term", "holder"])
async def test_another_terms_request_is_fenced(database: TestDatabase, which: str) -> None:
    old = await lead(database.pool)
    if which != "holder":
        await lead(database.pool, HOLDER if which == "own_old_term" else uuid4())
    await ready(database)

    holder = uuid4() if which == "holder" else HOLDER
    found = await strike(database.pool, await judge(database.pool, "s"), term=old, holder=holder)

    assert found == (False, [])
    assert await database.pool.fetchval(JOBS) == 0


async def test_no_term_begins_while_a_request_runs(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    async with database.pool.acquire() as leader:
        transaction = leader.transaction()
        await transaction.start()
        await strike(leader, verdict, term=term)
        taking = asyncio.create_task(lead(database.pool, uuid4()))
        pid = leader.get_server_pid()
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))", pid
            )
        )
        assert not taking.done()
        await transaction.commit()

    assert await taking > term
    assert await database.pool.fetchval(JOBS) == 1


async def test_no_term_begins_while_a_request_runs_whose_lease_was_renewed(
    database: TestDatabase,
) -> None:
    """The renewal makes another version of the row, which the request has not locked itself."""
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    async with database.pool.acquire() as leader, leader.transaction():
        await strike(leader, verdict, term=term)
        await database.pool.execute("UPDATE qj_lease SET renewed_at = now(), expires_at = now()")

        with pytest.raises(asyncpg.LockNotAvailableError):
            await lease.acquire(
                database.pool, uuid=uuid4(), node="n", seen_term=term, ttl=timedelta(hours=1)
            )


async def test_no_request_begins_while_somebody_takes_the_lease(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    await database.pool.execute("UPDATE qj_lease SET expires_at = '-infinity'")
    async with database.pool.acquire() as other, other.transaction():
        taken = await lease.acquire(
            other, uuid=uuid4(), node="n", seen_term=term, ttl=timedelta(hours=1)
        )
        assert taken == term + 1

        with pytest.raises(asyncpg.LockNotAvailableError):
            await strike(database.pool, verdict, term=term)

    held, _ = await strike(database.pool, verdict, term=term)
    assert not held
    assert await database.pool.fetchval(JOBS) == 0


async def test_the_lease_is_renewed_while_a_request_runs(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    before = await database.pool.fetchval("SELECT renewed_at FROM qj_lease")
    async with database.pool.acquire() as leader, leader.transaction():
        await strike(leader, verdict, term=term)

        await lease.beat(
            database.pool,
            uuid=HOLDER,
            node="n",
            pid=1,
            version="0",
            started_at=before,
            lag=timedelta(0),
            clock_offset=timedelta(0),
            term=term,
            ttl=timedelta(hours=1),
        )

        assert await database.pool.fetchval("SELECT renewed_at FROM qj_lease") > before


async def test_a_job_that_has_not_ended_keeps_the_next_from_being_enqueued(
    database: TestDatabase,
) -> None:
    term = await lead(database.pool)
    await ready(database, overlap="skip")
    _, [first] = await strike(database.pool, await judge(database.pool, "s"), term=term)
    await database.pool.execute("UPDATE qj_schedules SET next_run_at = now()")

    _, [second] = await strike(database.pool, await judge(database.pool, "s"), term=term)

    assert (second.outcome, second.job_id) == ("skipped_overlap", None)
    assert second.reason == f"job {first.job_id} of this schedule had not ended"


@pytest.mark.parametrize("state", ["completed", "cancelled", "discarded"])
async def test_a_job_that_has_ended_does_not(database: TestDatabase, state: str) -> None:
    term = await lead(database.pool)
    await ready(database, overlap="skip")
    await strike(database.pool, await judge(database.pool, "s"), term=term)
    await database.pool.execute("UPDATE oban_jobs SET state = $1::text::oban_job_state", state)
    await database.pool.execute("UPDATE qj_schedules SET next_run_at = now()")

    _, [second] = await strike(database.pool, await judge(database.pool, "s"), term=term)

    assert second.outcome == "enqueued"


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ("state = 'available'", "skipped_unique"),
        ("state = 'completed'", "skipped_unique"),
        ("state = 'cancelled'", "enqueued"),
        ("inserted_at = inserted_at - interval '1 h'", "enqueued"),
    ],
)
async def test_the_uniqueness_of_the_job_type_applies(
    database: TestDatabase, change: str, outcome: str
) -> None:
    unique = Unique(period=timedelta(minutes=30))
    await database.pool.execute(
        "INSERT INTO qj_job_types (worker, uniqueness, registered_by) VALUES ('w', $1, 'test')",
        unique.to_json(),
    )
    first = await quarterjack.enqueue(database.pool, "w", queue="unworked", unique=unique)
    await database.pool.execute(f"UPDATE oban_jobs SET {change}")
    term = await lead(database.pool)
    await ready(database)

    _, [struck] = await strike(database.pool, await judge(database.pool, "s"), term=term)

    assert struck.outcome == outcome
    assert (struck.job_id is None) == (outcome == "skipped_unique")
    assert await database.pool.fetchval(JOBS) == (1 if outcome == "skipped_unique" else 2)
    assert struck.job_id != first.id


async def test_a_unique_job_of_a_moment_is_struck_like_any(database: TestDatabase) -> None:
    unique = Unique(period=timedelta(microseconds=5))
    term = await lead(database.pool)
    await ready(database, uniqueness=unique.to_json())

    _, [struck] = await strike(database.pool, await judge(database.pool, "s"), term=term)

    assert struck.outcome == "enqueued"


async def test_a_broken_line_leaves_the_watermark_where_it_was(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    await database.pool.execute(
        "INSERT INTO qj_ticks (schedule_id, tick_at, outcome, version) VALUES ($1, $2, 'x', 1)",
        verdict.due.id,
        verdict.due.next_run_at,
    )

    with pytest.raises(asyncpg.UniqueViolationError):
        await strike(database.pool, verdict, term=term)

    assert await database.pool.fetchval(JOBS) == 0
    assert (await due(database.pool, "s")).next_run_at == verdict.due.next_run_at


async def test_a_held_schedule_keeps_no_other_waiting(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database, "held")
    await ready(database, "free")
    verdicts = [await judge(database.pool, "held"), await judge(database.pool, "free")]
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM qj_schedules WHERE name = 'held' FOR UPDATE")

        _, struck = await strike(database.pool, *verdicts, term=term)

    assert [tick.schedule_id for tick in struck] == [verdicts[1].due.id]


async def test_a_unique_key_in_an_open_transaction_is_not_waited_for(
    database: TestDatabase,
) -> None:
    unique = Unique()
    term = await lead(database.pool)
    await ready(database, uniqueness=unique.to_json())
    verdict = await judge(database.pool, "s")
    async with database.pool.acquire() as other, other.transaction():
        await quarterjack.enqueue(other, "w", queue="unworked", unique=unique)

        with pytest.raises(asyncpg.LockNotAvailableError):
            await strike(database.pool, verdict, term=term)


async def test_a_tick_does_not_ring_inside_its_transaction(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))

    await strike(database.pool, await judge(database.pool, "s"), term=term)
    await database.pool.execute("INSERT INTO oban_jobs (worker, queue) VALUES ('w', 'after')")

    async with asyncio.timeout(5):
        assert json.loads(await heard.get()) == {"queue": "after"}
    await ear.close()
