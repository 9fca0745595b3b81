"""What the leader of Oban for Elixir does to jobs of ours, by what the real one (2.23) was seen to run.

Its statements go over all queues, and look at nothing but states and times.
"""

import asyncio

import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.queries import bulk, jobs, upkeep
from quarterjack.queries import cluster as overview
from tests.conftest import TestDatabase
from tests.flows import states
from tests.interop.beside import run_long, worker_on
from tests.processes import cluster
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres
LEADS = """
INSERT INTO oban_peers (name, node, started_at, expires_at)
VALUES ('Oban', 'elixir-1', timezone('UTC', now()), timezone('UTC', now() + interval '1 hour'))
"""
WAITS = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
RESCUE = """
UPDATE oban_jobs
SET
  state = $1::text::oban_job_state,
  discarded_at = CASE WHEN $1 = 'discarded' THEN timezone('UTC', now()) ELSE discarded_at END
WHERE state = 'executing' AND attempted_at < timezone('UTC', now())
"""
STAGE = """
UPDATE oban_jobs AS j SET state = 'available'
FROM (
  SELECT id, state FROM oban_jobs
  WHERE state IN ('scheduled', 'retryable') AND scheduled_at <= timezone('UTC', now())
  ORDER BY scheduled_at DESC, id DESC
  LIMIT 5000
) AS s
WHERE j.id = s.id
"""
BEGIN = """
UPDATE oban_jobs
SET state = 'executing', attempt = 1, attempted_at = timezone('UTC', clock_timestamp()),
  attempted_by = ARRAY['worker-1', $2::text, 'x']
WHERE id = $1
"""
ELIXIR = """
CREATE SCHEMA app;
CREATE TABLE app.changes (state text);
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes VALUES (NEW.state);
  RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON oban_jobs FOR EACH ROW EXECUTE FUNCTION app.note();
CREATE ROLE elixir;
GRANT USAGE ON SCHEMA app TO elixir;
GRANT ALL ON app.changes, oban_jobs TO elixir;
SET ROLE elixir;
SET search_path = app, public;
"""
PRUNE = """
DELETE FROM oban_jobs
WHERE state = 'completed' AND scheduled_at < timezone('UTC', now()) - interval '60 s'
"""


@pytest.mark.parametrize("rescue", ["available", "discarded"])
async def test_its_rescue_leaves_what_a_live_worker_of_ours_runs(
    database: TestDatabase, rescue: str
) -> None:
    async with cluster(database) as running:
        await worker_on(running)
        id = await run_long(database)

        await database.pool.execute(RESCUE, rescue)
        await database.pool.execute("CREATE TABLE released ()")
        await until(lambda: database.pool.fetchval("SELECT state = 'completed' FROM oban_jobs"))

    job = await jobs.find(database.pool, id)
    assert job is not None
    assert (job.attempt, job.errors, job.discarded_at) == (1, [], None)


async def test_its_rescue_runs_triggers_of_its_application_as_any_update_of_its_own(
    database: TestDatabase,
) -> None:
    uuid = await _producer(database, state="running")
    made = await quarterjack.enqueue(database.pool, "count")
    await database.pool.execute(BEGIN, made.id, uuid)
    async with database.pool.acquire() as elixir:
        undone = elixir.transaction()
        await undone.start()
        await elixir.execute(ELIXIR)
        await elixir.execute(RESCUE, "available")
        changes = await elixir.fetch("SELECT state FROM changes")
        found = await states(elixir, made.id)
        await undone.rollback()

    assert found == ["executing"]
    assert sorted(each["state"] for each in changes) == ["available", "executing"]


async def test_its_rescue_takes_what_nobody_runs(database: TestDatabase) -> None:
    uuid = await _producer(database, state="dead")
    await database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, state, attempt, attempted_at, attempted_by)
        SELECT 'count', 'executing', 1, timezone('UTC', now()), attempted_by
        FROM (
          VALUES (ARRAY['worker-1', $1, 'x']), ('{worker-1,gone,x}'), ('{elixir-1,theirs}'), (NULL)
        ) AS v (attempted_by)
        """,
        uuid,
    )

    await database.pool.execute(RESCUE, "available")

    assert await states(database.pool, *range(1, 5)) == ["available"] * 4


@pytest.mark.parametrize("meanwhile", ["executing", "completed", "cancelled"])
async def test_its_staging_takes_no_job_back_that_ours_have_begun_meanwhile(
    database: TestDatabase, meanwhile: str
) -> None:
    uuid = await _producer(database, state="running")
    due = await database.pool.fetchval("SELECT clock_timestamp()")
    made = await quarterjack.enqueue(database.pool, "count", scheduled_at=due)
    async with database.pool.acquire() as ours, database.pool.acquire() as theirs:
        async with ours.transaction():
            await ours.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", made.id)
            staging = asyncio.create_task(theirs.execute(STAGE))
            await until(lambda: database.pool.fetchval(WAITS))
            await ours.execute(BEGIN, made.id, uuid)
            await ours.execute(
                "UPDATE oban_jobs SET state = $2::text::oban_job_state WHERE id = $1",
                made.id,
                meanwhile,
            )
        await staging

    assert await states(database.pool, made.id) == [meanwhile]


async def test_its_staging_takes_no_job_back_that_is_cancelled_meanwhile(
    database: TestDatabase,
) -> None:
    due = await database.pool.fetchval("SELECT clock_timestamp()")
    made = await quarterjack.enqueue(database.pool, "count", scheduled_at=due)
    assert made.id is not None
    async with database.pool.acquire() as ours, database.pool.acquire() as theirs:
        async with ours.transaction():
            assert await bulk.cancel(ours, [made.id]) == 1
            staging = asyncio.create_task(theirs.execute(STAGE))
            await until(lambda: database.pool.fetchval(WAITS))
        await staging
    assert await states(database.pool, made.id) == ["cancelled"]

    assert await bulk.retry(database.pool, [made.id]) == 1

    assert await states(database.pool, made.id) == ["available"]


async def test_its_leader_stages_and_prunes_beside_ours(database: TestDatabase) -> None:
    await database.pool.execute(LEADS)
    peer = await database.pool.fetch("SELECT * FROM oban_peers")
    async with cluster(database) as running:
        await running.scheduler()
        await worker_on(running)
        await until(lambda: database.pool.fetchval("SELECT term > 0 FROM qj_lease"))
        now = await database.pool.fetchval("SELECT clock_timestamp()")
        await quarterjack.enqueue_many(
            database.pool, [NewJob(worker="count", scheduled_at=now) for _ in range(200)]
        )

        async def settled() -> bool:
            await database.pool.execute(STAGE)
            await database.pool.execute(PRUNE)
            states = await database.pool.fetch("SELECT state::text, attempt FROM oban_jobs")
            return {(each["state"], each["attempt"]) for each in states} == {("completed", 1)}

        await until(settled)

    assert await database.pool.fetch("SELECT * FROM oban_peers") == peer
    assert await database.pool.fetchval("SELECT count(*) FROM oban_leaders") == 0


async def test_while_it_leads_its_own_queues_are_left_to_its_staging(
    database: TestDatabase,
) -> None:
    await _producer(database, state="running")
    await database.pool.execute(LEADS)
    await database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, queue, state, scheduled_at)
        SELECT 'w', queue, 'scheduled', timezone('UTC', now()) - ago
        FROM (VALUES ('default', interval '0'), ('theirs', '0'), ('forgotten', '6 s')) AS v (queue, ago)
        """
    )

    assert sorted(await upkeep.stage(database.pool, limit=10)) == ["default", "forgotten"]
    await database.pool.execute("UPDATE oban_peers SET expires_at = timezone('UTC', now())")
    assert await upkeep.stage(database.pool, limit=10) == ["theirs"]


async def test_while_it_leads_a_queue_without_our_workers_is_no_alarm_until_a_job_waits(
    database: TestDatabase,
) -> None:
    await database.pool.execute(
        """
        INSERT INTO qj_schedules (name, worker, cron, timezone, queue)
        SELECT queue, 'w', '0 6 * * *', 'UTC', queue FROM unnest('{forgotten,theirs}'::text[]) AS queue
        """
    )
    assert await overview.unserved_queues(database.pool) == ["forgotten", "theirs"]

    await database.pool.execute(LEADS)
    await database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, queue, scheduled_at)
        SELECT 'w', queue, timezone('UTC', now()) - ago
        FROM (VALUES ('theirs', interval '50 s'), ('forgotten', '61 s')) AS v (queue, ago)
        """
    )

    assert await overview.unserved_queues(database.pool) == ["forgotten"]


async def _producer(database: TestDatabase, *, state: str) -> str:
    uuid: str = await database.pool.fetchval(
        """
        INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, state)
        VALUES (gen_random_uuid(), 'Oban', 'worker-1', 1, '1', 'default', 5, $1)
        RETURNING uuid::text
        """,
        state,
    )
    return uuid
