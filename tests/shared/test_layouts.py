"""Databases that another Oban made: left as they are, and fully used."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

import quarterjack
from quarterjack import JobState, NewJob, Unique, migrate
from quarterjack.database import open_pool
from quarterjack.queries import acks, alerts, bulk, jobs, prune, upkeep
from quarterjack.queries.acks import Ack
from tests.conftest import TestDatabase
from tests.flows import settle, states
from tests.scheduler.replica import add_schedule, judge, lead, strike
from tests.shared.test_statements import refused
from tests.worker.test_claims import claim, producer

ELIXIR = """
CREATE TYPE oban_job_state AS ENUM (
  'available', 'suspended', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled'
);
CREATE TABLE oban_jobs (
  id bigserial PRIMARY KEY,
  state oban_job_state NOT NULL DEFAULT 'available',
  queue text NOT NULL DEFAULT 'default',
  worker text NOT NULL,
  args jsonb NOT NULL DEFAULT '{}',
  errors jsonb[] NOT NULL DEFAULT ARRAY[]::jsonb[],
  attempt integer NOT NULL DEFAULT 0,
  max_attempts integer NOT NULL DEFAULT 20,
  inserted_at timestamp(6) NOT NULL DEFAULT timezone('UTC', now()),
  scheduled_at timestamp(6) NOT NULL DEFAULT timezone('UTC', now()),
  attempted_at timestamp(6),
  completed_at timestamp(6),
  attempted_by text[],
  discarded_at timestamp(6),
  priority integer NOT NULL DEFAULT 0,
  tags varchar(255)[] DEFAULT ARRAY[]::varchar[],
  meta jsonb DEFAULT '{}',
  cancelled_at timestamp(6),
  CONSTRAINT attempt_range CHECK (attempt BETWEEN 0 AND max_attempts),
  CONSTRAINT positive_max_attempts CHECK (max_attempts > 0),
  CONSTRAINT queue_length CHECK (char_length(queue) > 0 AND char_length(queue) < 128),
  CONSTRAINT worker_length CHECK (char_length(worker) > 0 AND char_length(worker) < 128)
);
ALTER TABLE oban_jobs ADD CONSTRAINT non_negative_priority CHECK (priority >= 0) NOT VALID;
CREATE UNLOGGED TABLE oban_peers (
  name text PRIMARY KEY, node text NOT NULL, started_at timestamp NOT NULL, expires_at timestamp NOT NULL
);
COMMENT ON TABLE oban_jobs IS '14';
"""
OBAN_PY = """
CREATE TYPE oban_job_state AS ENUM (
  'available', 'scheduled', 'suspended', 'executing', 'retryable', 'completed', 'discarded', 'cancelled'
);
CREATE TABLE oban_jobs (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  state oban_job_state NOT NULL DEFAULT 'available',
  queue text NOT NULL DEFAULT 'default',
  worker text NOT NULL,
  attempt smallint NOT NULL DEFAULT 0,
  max_attempts smallint NOT NULL DEFAULT 20,
  priority smallint NOT NULL DEFAULT 0,
  args jsonb NOT NULL DEFAULT '{}',
  meta jsonb NOT NULL DEFAULT '{}',
  tags text[] NOT NULL DEFAULT ARRAY[]::text[],
  errors jsonb NOT NULL DEFAULT '[]',
  attempted_by text[] NOT NULL DEFAULT ARRAY[]::text[],
  inserted_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
  scheduled_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
  attempted_at timestamp,
  cancelled_at timestamp,
  completed_at timestamp,
  discarded_at timestamp,
  CONSTRAINT attempt_range CHECK (attempt BETWEEN 0 AND max_attempts)
);
CREATE UNLOGGED TABLE oban_leaders (
  name text PRIMARY KEY DEFAULT 'oban', node text NOT NULL, elected_at timestamp NOT NULL, expires_at timestamp NOT NULL
);
CREATE UNLOGGED TABLE oban_producers (
  uuid uuid PRIMARY KEY, name text NOT NULL DEFAULT 'oban', node text NOT NULL, queue text NOT NULL,
  meta jsonb NOT NULL DEFAULT '{}', started_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
  updated_at timestamp NOT NULL DEFAULT timezone('UTC', now())
);
"""
LAYOUTS = {"elixir": ELIXIR, "oban_py": OBAN_PY, "ours": "SELECT"}
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity, pg_get_expr(adbin, adrelid)
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = to_regclass('oban_jobs') AND attnum > 0 ORDER BY attnum
"""
OBJECTS = """
SELECT conname AS name, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass('oban_jobs')
UNION ALL
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = current_schema() AND tablename = 'oban_jobs' AND indexname NOT LIKE 'qj%'
UNION ALL
SELECT 'version', obj_description(to_regclass('oban_jobs'), 'pg_class')
ORDER BY name
"""


@pytest.fixture(params=LAYOUTS)
async def layout(
    request: pytest.FixtureRequest, empty_database: TestDatabase
) -> AsyncIterator[TestDatabase]:
    """A database in a schema of its own, made by another Oban and then migrated, whose ids need more than 32 bits."""
    address = replace(empty_database.address, schema="platform")
    await empty_database.pool.execute("CREATE SCHEMA platform")
    async with open_pool(address, name="tests", size=10) as pool:
        await pool.execute(LAYOUTS[request.param])
        columns, objects = await pool.fetch(COLUMNS), await pool.fetch(OBJECTS)
        await migrate.apply(address, optional=migrate.OPTIONAL)
        await migrate.check(pool)
        if columns:
            assert (await pool.fetch(COLUMNS), await pool.fetch(OBJECTS)) == (columns, objects)
        await pool.execute(
            "SELECT setval(pg_get_serial_sequence('oban_jobs', 'id'), (2 ^ 53)::bigint)"
        )
        yield replace(empty_database, address=address, pool=pool)


async def test_a_job_lives_its_whole_life(layout: TestDatabase) -> None:
    result = await quarterjack.enqueue(
        layout.pool, "w", {"a": 1}, tags=["x"], max_attempts=32_767, unique=Unique()
    )
    uuid = await producer(layout)
    for error in ("first", "second"):
        [held] = await claim(layout, uuid)
        await acks.ack(layout.pool, [Ack(claim=held, state="retryable", error=error, delay=0)])
        await upkeep.stage(layout.pool, limit=10)
    [held] = await claim(layout, uuid)
    await acks.ack(layout.pool, [Ack(claim=held, state="scheduled", delay=0, snoozed=True)])
    await upkeep.stage(layout.pool, limit=10)
    [held] = await claim(layout, uuid)
    await acks.ack(layout.pool, [Ack(claim=held, state="completed", meta={"warning": "slow"})])

    job = await jobs.find(layout.pool, result.id or 0)
    assert job is not None
    assert (job.state, job.attempt, job.args, job.tags) == (
        JobState.COMPLETED,
        3,
        {"a": 1},
        ["x"],
    )
    assert [(e["attempt"], e["error"]) for e in job.errors] == [(1, "first"), (2, "second")]
    assert job.meta | {"qj_unique": ""} == {"qj_unique": "", "snoozed": 1, "warning": "slow"}
    assert job.completed_at is not None
    assert abs(job.completed_at - job.inserted_at) < timedelta(minutes=1)
    assert (await quarterjack.enqueue(layout.pool, "w", {"a": 1}, unique=Unique())).conflict
    assert await prune.completed(layout.pool, age=timedelta(0), limit=10) == 1


async def test_an_orphan_is_rescued_and_the_spent_discarded(layout: TestDatabase) -> None:
    await quarterjack.enqueue(layout.pool, "w")
    await layout.pool.execute(
        "INSERT INTO oban_jobs (worker, attempt, max_attempts) VALUES ('spent', 1, 1)"
    )
    await claim(layout, await producer(layout))
    await layout.pool.execute("UPDATE qj_producers SET state = 'dead'")

    assert [job.state for job in await upkeep.rescue(layout.pool, limit=10)] == ["available"]
    assert len(await upkeep.discard_exhausted(layout.pool)) == 1


async def test_a_job_that_waits_hears_of_an_end_by_a_program_that_names_the_schema(
    layout: TestDatabase,
) -> None:
    [first] = await quarterjack.enqueue_many(layout.pool, [NewJob(worker="w")])
    second = await quarterjack.enqueue(layout.pool, "w", after=[first.id or 0])
    third = await quarterjack.enqueue(
        layout.pool, "w", after=[second.id or 0], even_if=["cancelled"]
    )
    await settle(layout.pool)
    stranger = await asyncpg.connect(layout.url)
    try:
        await stranger.execute(
            "UPDATE platform.oban_jobs SET state = 'discarded' WHERE id = $1", first.id
        )
    finally:
        await stranger.close()
    await settle(layout.pool)

    assert await states(layout.pool, second.id, third.id) == ["cancelled", "available"]
    job = await jobs.find(layout.pool, second.id or 0)
    assert job is not None
    assert "which was discarded" in job.errors[0]["error"]


async def test_a_tick_is_struck(layout: TestDatabase) -> None:
    term = await lead(layout.pool)
    at = await layout.pool.fetchval("SELECT clock_timestamp() - interval '3 s'")
    await add_schedule(
        layout.pool,
        "s",
        cron="0 0 1 1 *",
        next_run_at=at.isoformat(),
        uniqueness=Unique().to_json(),
    )

    held, [struck] = await strike(layout.pool, await judge(layout.pool, "s"), term=term)

    assert held
    assert struck.outcome == "enqueued"


async def test_a_job_with_all_attempts_that_fit_is_retried(layout: TestDatabase) -> None:
    rows = await layout.pool.fetch(
        """
        INSERT INTO oban_jobs (worker, state, attempt, max_attempts)
        SELECT 'w', 'discarded', tried, tried FROM unnest('{3,32767,32767}'::int[]) AS tried
        RETURNING id
        """
    )

    assert await bulk.retry(layout.pool, [row["id"] for row in rows]) == 3
    assert len(await claim(layout, await producer(layout))) == 3


async def test_each_statement_fits(layout: TestDatabase) -> None:
    assert await refused(layout.pool) == {}


async def test_what_keeps_failing_is_paused_by_its_last_error(layout: TestDatabase) -> None:
    await layout.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron, max_failures) VALUES ('s', 'w', '0 0 1 1 *', 1)"
    )
    await layout.pool.execute(
        """INSERT INTO oban_jobs (worker, meta) VALUES ('w', '{"cron_name": "s"}')"""
    )
    for said in ("first", "last\nof all"):
        await layout.pool.execute(
            """
            UPDATE oban_jobs
            SET state = 'discarded', errors = qj_with_error(errors, jsonb_build_object('error', $1::text))
            """,
            said,
        )

    [alert] = await alerts.pause_failing(layout.pool, channels=[])

    assert alert.message.endswith(": last")


async def test_the_tables_of_every_oban_are_there(layout: TestDatabase) -> None:
    for table in ("oban_jobs", "oban_peers", "oban_leaders", "oban_producers"):
        assert await layout.pool.fetchval("SELECT to_regclass($1) IS NOT NULL", f"platform.{table}")
    assert await layout.pool.fetchval("SELECT to_regclass('public.oban_jobs') IS NULL")
