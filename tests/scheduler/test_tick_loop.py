"""The leader's loop: what people write into the table, and one schedule's trouble that stays its own."""

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

import quarterjack
from quarterjack import Unique, migrate
from quarterjack.database import open_pool
from quarterjack.queries import clock, ticks
from quarterjack.queries.ticks import Due
from quarterjack_scheduler import tick_loop
from tests.conftest import TestDatabase
from tests.scheduler.replica import add_schedule, replica
from tests.waiting import until

FIRED = "SELECT count(*) >= $2 FROM qj_ticks JOIN qj_schedules AS s ON s.id = schedule_id WHERE s.name = $1"
BROKEN = "SELECT name, broken_reason FROM qj_schedules WHERE broken_reason IS NOT NULL"
GRID = """
SELECT
  s.name,
  count(*) = extract(epoch FROM max(t.tick_at) - min(t.tick_at))::integer + 1 AS whole,
  count(*) = count(DISTINCT t.job_id) AS single
FROM qj_schedules AS s JOIN qj_ticks AS t ON t.schedule_id = s.id
GROUP BY s.name
"""
POISON: dict[str, dict[str, Any]] = {
    "cron": {"cron": "61 * * * * *"},
    "zone": {"timezone": "Mars/Olympus"},
    "period": {"uniqueness": {"period": 1e300}},
    "states": {"uniqueness": {"states": ["x"]}},
    "keys": {"uniqueness": {"keys": [{}]}},
    "refused": {"worker": "refused_by_a_trigger"},
    "checked": {"worker": "refused_by_a_constraint"},
}
if sys.version_info < (3, 12):  # later ones can read it
    POISON["deep"] = {"uniqueness": {}, "args": {"deep": "here"}}
REFUSALS = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN IF NEW.worker = 'refused_by_a_trigger' THEN RAISE EXCEPTION 'not here'; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON oban_jobs FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE oban_jobs ADD CHECK (worker <> 'refused_by_a_constraint');
UPDATE qj_schedules SET args = (repeat('{"a":', 3000) || '1' || repeat('}', 3000))::jsonb WHERE name = 'deep'
"""


@pytest.fixture
async def elsewhere(empty_database: TestDatabase) -> AsyncIterator[TestDatabase]:
    """The same in a schema that is not public."""
    address = replace(empty_database.address, schema="platform")
    await migrate.apply(address)
    async with open_pool(address, name="tests", size=5) as pool:
        yield replace(empty_database, address=address, pool=pool)


async def fired(database: TestDatabase, name: str, times: int) -> Any:
    return await database.pool.fetchval(FIRED, name, times)


async def test_one_bad_schedule_stops_no_other(database: TestDatabase) -> None:
    for name, columns in POISON.items():
        await add_schedule(database.pool, name, **columns)
    await add_schedule(database.pool, "healthy")
    await database.pool.execute(REFUSALS)
    async with replica(database.address):
        await until(lambda: fired(database, "healthy", 3))
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) = $1 FROM qj_schedules WHERE broken_reason IS NOT NULL",
                len(POISON),
            )
        )

    reasons = {row["name"]: row["broken_reason"] for row in await database.pool.fetch(BROKEN)}
    assert reasons.keys() == POISON.keys()
    assert all(reasons.values())
    assert "0 to 59" in reasons["cron"]
    assert "not here" in reasons["refused"]
    [grid] = await database.pool.fetch(GRID)
    assert tuple(grid) == ("healthy", True, True)


async def test_schedules_that_are_alike_are_each_fired(database: TestDatabase) -> None:
    for name in ("one", "other"):
        await add_schedule(database.pool, name, cron="*/2 * * * * *", args={"n": 1})
    async with replica(database.address):
        await until(lambda: fired(database, "one", 2))
        await until(lambda: fired(database, "other", 2))

    rows = await database.pool.fetch(
        "SELECT meta ->> 'cron_name' AS name, array_agg(meta ->> 'tick_at') AS ticks FROM oban_jobs"
        " GROUP BY 1"
    )
    ticks = {row["name"]: set(row["ticks"]) for row in rows}
    assert ticks["one"] & ticks["other"]


async def test_a_schedule_set_aside_goes_on_after_an_edit(database: TestDatabase) -> None:
    await add_schedule(database.pool, "s", cron="61 * * * * *")
    async with replica(database.address):
        await until(lambda: database.pool.fetchval(BROKEN))
        await database.pool.execute("UPDATE qj_schedules SET cron = '* * * * * *'")

        await until(lambda: fired(database, "s", 1))

    assert await database.pool.fetchval(BROKEN) is None


@pytest.mark.parametrize(
    "times",
    [
        "next_run_at = '0044-03-15 BC'",
        "planned_from = '0044-03-15 BC'",
        "last_tick_at = 'infinity'",
        "resume_at = '10000-01-01', paused_at = now()",
        "next_run_at = '-infinity'",
    ],
)
async def test_a_time_that_no_program_can_read_is_refused(
    database: TestDatabase, times: str
) -> None:
    await add_schedule(database.pool, "s")

    with pytest.raises(Exception, match="qj_schedules_times"):
        await database.pool.execute(f"UPDATE qj_schedules SET {times}")


async def test_what_others_hold_waits_alone(database: TestDatabase) -> None:
    unique = Unique()
    await add_schedule(database.pool, "row")
    await add_schedule(database.pool, "key", uniqueness=unique.to_json())
    await add_schedule(database.pool, "free", worker="x")
    async with replica(database.address):
        await until(lambda: fired(database, "row", 1))
        async with database.pool.acquire() as one, one.transaction():
            await one.execute("SELECT FROM qj_schedules WHERE name = 'row' FOR UPDATE")
            await one.execute("DELETE FROM oban_jobs")
            await quarterjack.enqueue(one, "w", queue="unworked", unique=unique)
            held = await clock.now(one)

            await until(
                lambda: database.pool.fetchval(
                    "SELECT count(*) >= 3 FROM qj_ticks JOIN qj_schedules AS s ON s.id = schedule_id"
                    " WHERE s.name = 'free' AND tick_at > $1",
                    held,
                )
            )
        await until(
            lambda: database.pool.fetchval(
                "SELECT min(next_run_at) > $1 FROM qj_schedules", held + timedelta(seconds=1)
            )
        )

    assert await database.pool.fetchval(BROKEN) is None
    assert all(row["whole"] for row in await database.pool.fetch(GRID))


async def test_each_second_is_in_time_beside_what_is_due_every_other(
    database: TestDatabase,
) -> None:
    await add_schedule(database.pool, "each", overlap="allow")
    await add_schedule(database.pool, "other", cron="*/2 * * * * *")
    async with replica(database.address):
        await until(lambda: fired(database, "each", 8))

    late = await database.pool.fetchval(
        """
        SELECT count(*) FROM qj_ticks JOIN qj_schedules AS s ON s.id = schedule_id
        WHERE s.name = 'each' AND decided_at - tick_at > interval '0.5 s'
        """
    )
    assert late < 3


async def test_between_ticks_the_leader_rests(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides what is to come once, and waits for its instant."""
    look, looks = ticks.due, []

    async def counted(*args: Any, **named: Any) -> list[Due]:
        looks.append(named)
        return await look(*args, **named)

    monkeypatch.setattr(ticks, "due", counted)
    await add_schedule(database.pool, "s")
    async with replica(database.address):
        await until(lambda: fired(database, "s", 4))

    assert len(looks) < 20


async def test_edits_apply_without_any_notification(database: TestDatabase) -> None:
    await _edit_while_it_runs(database)


async def test_another_schema_is_served_alike(elsewhere: TestDatabase) -> None:
    await _edit_while_it_runs(elsewhere)

    assert await elsewhere.pool.fetchval("SELECT to_regclass('public.oban_jobs')") is None
    assert await elsewhere.pool.fetchval("SELECT count(*) > 0 FROM platform.oban_jobs")


async def _edit_while_it_runs(database: TestDatabase) -> None:
    async with replica(database.address, "r1"):
        await add_schedule(database.pool, "s", cron="0 0 1 1 *")
        await until(
            lambda: database.pool.fetchval(
                "SELECT true FROM qj_schedules WHERE applied_version = 1"
            )
        )
        await database.pool.execute("UPDATE qj_schedules SET cron = '* * * * * *'")

        await until(lambda: fired(database, "s", 1))
        row = await database.pool.fetchrow("SELECT * FROM qj_schedules")

    assert row is not None
    assert (row["applied_version"], row["applied_by"]) == (2, "r1")
    assert row["applied_at"] - row["updated_at"] < timedelta(seconds=5)


async def test_edits_during_due_ticks_leave_each_tick_once(database: TestDatabase) -> None:
    await add_schedule(database.pool, "s")
    async with replica(database.address):
        for number in range(12):
            await until(partial(fired, database, "s", number // 4))
            await database.pool.execute(
                "UPDATE qj_schedules SET args = jsonb_build_object('n', $1::integer)", number
            )
        await until(lambda: fired(database, "s", 4))

    [grid] = await database.pool.fetch(GRID)
    assert (grid["whole"], grid["single"]) == (True, True)
    assert await database.pool.fetchval("SELECT version FROM qj_schedules") == 13


async def test_a_pause_runs_out_and_its_span_is_told(database: TestDatabase) -> None:
    await add_schedule(database.pool, "s")
    async with replica(database.address):
        await until(lambda: fired(database, "s", 1))
        await database.pool.execute(
            "UPDATE qj_schedules SET paused_at = clock_timestamp(), paused_by = 'ana', paused_reason = 'full',"
            " resume_at = clock_timestamp() + interval '1 s'"
        )

        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) > 0 FROM qj_ticks AS t, qj_ticks AS p"
                " WHERE p.outcome = 'paused' AND t.outcome = 'enqueued' AND t.tick_at > p.until_at"
            )
        )

    spans = await database.pool.fetch("SELECT * FROM qj_ticks WHERE outcome = 'paused'")
    assert [span["reason"] for span in spans] == ["paused by ana: full"]
    row = await database.pool.fetchrow("SELECT paused_at, paused_by, resume_at FROM qj_schedules")
    assert row is not None
    assert tuple(row) == (None, None, None)


@pytest.mark.parametrize(
    ("catchup", "outcomes"),
    [
        ("skip", {"skipped_missed"}),
        ("last", {"coalesced", "enqueued"}),
        ("all", {"enqueued"}),
    ],
)
async def test_a_new_leader_begins_at_the_watermark(
    database: TestDatabase, catchup: str, outcomes: set[str]
) -> None:
    missed = await clock.now(database.pool) - timedelta(minutes=10)
    await add_schedule(
        database.pool, "s", cron="* * * * *", catchup=catchup, next_run_at=missed.isoformat()
    )
    async with replica(database.address):
        await until(lambda: database.pool.fetchval("SELECT next_run_at > now() FROM qj_schedules"))

    found = await database.pool.fetch("SELECT outcome, tick_at FROM qj_ticks WHERE tick_at < now()")
    missed_ones = {row["outcome"] for row in found} - ({"enqueued"} if catchup == "skip" else set())
    assert missed_ones == outcomes


async def test_what_was_missed_holds_up_nobody(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick_loop, "LONG", 0.0)
    missed = await clock.now(database.pool) - timedelta(minutes=10)
    await add_schedule(database.pool, "late", cron="* * * * *", next_run_at=missed.isoformat())
    await add_schedule(database.pool, "fresh", overlap="allow")
    async with replica(database.address):
        await until(lambda: fired(database, "fresh", 3))

    assert not await fired(database, "late", 1)
    [grid] = await database.pool.fetch(GRID)
    assert tuple(grid) == ("fresh", True, True)


async def test_what_was_missed_is_made_up_in_parts(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick_loop, "OVERDUE", 2)
    missed = await clock.now(database.pool) - timedelta(minutes=10)
    for number in range(5):
        at = (missed + timedelta(seconds=number)).isoformat()
        await add_schedule(database.pool, f"s{number}", cron="* * * * *", next_run_at=at)
    async with replica(database.address):
        await until(
            lambda: database.pool.fetchval("SELECT min(next_run_at) > now() FROM qj_schedules")
        )

    assert (
        await database.pool.fetchval("SELECT count(DISTINCT meta ->> 'cron_name') FROM oban_jobs")
        == 5
    )


async def test_a_leader_that_cannot_enqueue_lets_another(database: TestDatabase) -> None:
    await database.pool.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF current_setting('application_name') LIKE '%sick%' THEN
            RAISE EXCEPTION 'no rights' USING ERRCODE = 'insufficient_privilege';
          END IF;
          RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON oban_jobs FOR EACH ROW EXECUTE FUNCTION refuse()
        """
    )
    await add_schedule(database.pool, "s")
    async with replica(database.address, "sick") as sick:
        await until(lambda: _leads(sick.election.term))
        async with replica(database.address, "well"):
            await until(lambda: fired(database, "s", 3), within=20)

    [grid] = await database.pool.fetch(GRID)
    assert grid["whole"]
    assert await database.pool.fetchval(BROKEN) is None


async def _leads(term: int | None) -> bool:
    return term is not None
