"""Oban for Elixir on the same tables, by what the real one (2.23) was recorded to make, to send and to do.

Its statements are written here as it runs them, unfenced and over all queues.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import quarterjack
from quarterjack import NewJob, Unique
from quarterjack.queries import bulk, jobs
from tests.conftest import TestDatabase
from tests.flows import states
from tests.interop.beside import run_long, worker_on
from tests.processes import Service, cluster
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres
COLUMNS = {
    "id": "bigint NOT NULL nextval('oban_jobs_id_seq'::regclass)",
    "state": "oban_job_state NOT NULL 'available'::oban_job_state",
    "queue": "text NOT NULL 'default'::text",
    "worker": "text NOT NULL",
    "args": "jsonb NOT NULL '{}'::jsonb",
    "errors": "jsonb[] NOT NULL ARRAY[]::jsonb[]",
    "attempt": "integer NOT NULL 0",
    "max_attempts": "integer NOT NULL 20",
    "inserted_at": "timestamp(6) without time zone NOT NULL timezone('UTC'::text, now())",
    "scheduled_at": "timestamp(6) without time zone NOT NULL timezone('UTC'::text, now())",
    "attempted_at": "timestamp(6) without time zone",
    "completed_at": "timestamp(6) without time zone",
    "attempted_by": "text[]",
    "discarded_at": "timestamp(6) without time zone",
    "priority": "integer NOT NULL 0",
    "tags": "text[] ARRAY[]::text[]",
    "meta": "jsonb '{}'::jsonb",
    "cancelled_at": "timestamp(6) without time zone",
}
CHECKS = {
    "attempt_range": "CHECK (((attempt >= 0) AND (attempt <= max_attempts)))",
    "positive_max_attempts": "CHECK ((max_attempts > 0))",
    "queue_length": "CHECK (((char_length(queue) > 0) AND (char_length(queue) < 128)))",
    "worker_length": "CHECK (((char_length(worker) > 0) AND (char_length(worker) < 128)))",
    "non_negative_priority": "CHECK ((priority >= 0)) NOT VALID",
}
INDEXES = {
    "oban_jobs_pkey": "btree (id)",
    "oban_jobs_state_queue_priority_scheduled_at_id_index": "btree (state, queue, priority, scheduled_at, id)",
    "oban_jobs_args_index": "gin (args)",
    "oban_jobs_meta_index": "gin (meta)",
    "oban_jobs_state_cancelled_at_index": "btree (state, cancelled_at)",
    "oban_jobs_state_discarded_at_index": "btree (state, discarded_at)",
}
PEERS = {
    "name": "text NOT NULL",
    "node": "text NOT NULL",
    "started_at": "timestamp without time zone NOT NULL",
    "expires_at": "timestamp without time zone NOT NULL",
}
DEFINITIONS = """
SELECT attname, concat_ws(
  ' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,
  pg_get_expr(adbin, adrelid)
) AS definition
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = to_regclass($1) AND attnum > 0
ORDER BY attnum
"""
STATES = ["available", "suspended", "scheduled", "executing", "retryable", "completed"]
PRO_TABLES = {"oban_crons", "oban_workflows", "oban_queues"}
CANCEL = """
UPDATE oban_jobs SET state = 'cancelled', cancelled_at = timezone('UTC', now())
WHERE id = $1 AND state NOT IN ('cancelled', 'completed', 'discarded')
"""
UPDATE_META = """
UPDATE oban_jobs SET meta = '{"done": 7}' WHERE id = $1
"""
EXECUTING = """
WITH python AS (
  INSERT INTO oban_producers (uuid, name, node, queue) VALUES (gen_random_uuid(), 'Oban', 'py', 'py') RETURNING uuid
)
INSERT INTO oban_jobs (worker, state, attempt, attempted_by)
SELECT 'w', 'executing', 1, attempted_by
FROM
  python,
  LATERAL (
    VALUES ('{elixir-1,theirs}'::text[]), (NULL), (ARRAY['py', uuid::text]), ('{worker-1,ours,nonce}')
  ) AS v (attempted_by)
"""
CONFLICT = """
SELECT id FROM oban_jobs
WHERE state::text = ANY ('{available,scheduled,executing,retryable,completed}') AND worker = $1 AND queue = $2
  AND args @> $3 AND args <@ $3 AND inserted_at >= timezone('UTC', now()) - interval '60 s'
LIMIT 1
"""


async def test_our_install_is_obans_version_14(database: TestDatabase) -> None:
    columns = await database.pool.fetch(DEFINITIONS, "oban_jobs")
    peers = await database.pool.fetch(DEFINITIONS, "oban_peers")
    checks = await database.pool.fetch(
        """
        SELECT conname, pg_get_constraintdef(oid)
        FROM pg_constraint
        WHERE conrelid = 'oban_jobs'::regclass AND contype = 'c'
        """
    )
    indexes = await database.pool.fetch(
        """
        SELECT indexname, split_part(indexdef, ' USING ', 2)
        FROM pg_indexes
        WHERE tablename = 'oban_jobs'
        """
    )
    row = await database.row(
        """
        SELECT
          obj_description('oban_jobs'::regclass) AS version,
          enum_range(NULL::oban_job_state)::text[] AS states,
          ARRAY(SELECT tablename::text FROM pg_tables WHERE tablename LIKE 'oban\\_%') AS tables,
          (SELECT relpersistence::text FROM pg_class WHERE oid = to_regclass('oban_peers')) AS logged
        """
    )

    assert [(each["attname"], each["definition"]) for each in columns] == list(COLUMNS.items())
    assert [(each["attname"], each["definition"]) for each in peers] == list(PEERS.items())
    assert dict(map(tuple, checks)) == CHECKS
    found = dict(map(tuple, indexes))
    assert {name: found[name] for name in found if not name.startswith("qj_")} == INDEXES
    assert row["logged"] == "u"
    assert (row["version"], row["states"]) == ("14", [*STATES, "discarded", "cancelled"])
    assert not set(row["tables"]) & PRO_TABLES


async def test_our_worker_runs_what_nobody_has_rung_for(database: TestDatabase) -> None:
    await database.pool.execute("ALTER TABLE oban_jobs DISABLE TRIGGER qj_ring")
    async with cluster(database) as running:
        await worker_on(running)
        await database.pool.execute(
            """
            INSERT INTO oban_jobs (worker, args, meta, tags, scheduled_at) VALUES
              ('count', '{"n": 1}', NULL, NULL, timezone('UTC', now())),
              ('count', '{}', '{"uniq": true, "uniq_key": "k"}', '{}', '-infinity')
            """
        )

        await until(
            lambda: database.pool.fetchval("SELECT bool_and(state = 'completed') FROM oban_jobs"),
            within=3,
        )


async def test_its_cancel_stops_our_running_job_for_good(database: TestDatabase) -> None:
    async with cluster(database) as running:
        worker = await worker_on(running)
        id = await run_long(database)

        await database.pool.execute(CANCEL, id)
        await _signal(database, {"action": "pkill", "job_id": id})
        await until(lambda: _said(worker, f"job {id} wait_for_release is cancelled"))
        await until(lambda: database.pool.fetchval("SELECT running = 0 FROM qj_producers"))

    job = await jobs.find(database.pool, id)
    assert job is not None
    assert (job.state, job.errors) == ("cancelled", [])


async def test_our_cancel_ends_what_a_lost_node_of_its_left_executing(
    database: TestDatabase,
) -> None:
    await database.pool.execute(EXECUTING)

    assert await bulk.cancel(database.pool, [1, 2, 3, 4]) == 4

    kept = ["executing"] * 2
    assert await states(database.pool, 1, 2, 3, 4) == ["cancelled", "cancelled", *kept]


async def test_its_signals_with_all_their_keys_are_obeyed(database: TestDatabase) -> None:
    async with cluster(database) as running:
        await worker_on(running)
        scale = {"action": "scale", "queue": "default", "limit": 3, "ident": "any"}
        await _signal(database, scale | {"node": None, "local_only": False})
        await until(lambda: database.pool.fetchval("SELECT local_limit = 3 FROM qj_producers"))

        await _signal(database, scale | {"limit": 4, "ident": "Oban.elsewhere"})
        await _signal(database, scale | {"limit": 5, "ident": "Oban.worker-1", "burst": {"x": 1}})
        await until(lambda: database.pool.fetchval("SELECT local_limit = 5 FROM qj_producers"))

        resting = "SELECT paused AND local_limit = 6 FROM qj_producers"
        await _signal(database, scale | {"limit": 6, "paused": True, "refresh_interval": 60_000})
        await until(lambda: database.pool.fetchval(resting))


async def test_its_progress_in_meta_hides_no_end_from_jobs_that_wait(
    database: TestDatabase,
) -> None:
    pool = database.pool
    [step, last] = await quarterjack.enqueue_many(pool, [NewJob(worker="W", queue="elixir")] * 2)
    after = [await quarterjack.enqueue(pool, "w", after=[each.id or 0]) for each in (step, last)]
    marked = "SELECT count(*) = 2 FROM oban_jobs WHERE meta ? 'qj_followed'"
    async with cluster(database) as running:
        await running.scheduler()
        await until(lambda: pool.fetchval(marked))

        await pool.execute(UPDATE_META, step.id)
        await until(lambda: pool.fetchval(marked))
        await pool.execute("UPDATE oban_jobs SET state = 'completed' WHERE id = $1", step.id)
        await pool.execute("DELETE FROM oban_jobs WHERE id = $1", step.id)
        await pool.execute(
            "UPDATE oban_jobs SET meta = '{}', state = 'completed' WHERE id = $1", last.id
        )
        await pool.execute("DELETE FROM oban_jobs WHERE id = $1", last.id)

        await until(
            lambda: pool.fetchval("SELECT count(*) = 0 FROM qj_edges WHERE outcome IS NULL")
        )

    assert await states(pool, *(each.id for each in after)) == ["available"] * 2


@pytest.mark.parametrize(
    "due", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
async def test_no_job_of_ours_is_due_at_an_infinity_which_takes_its_node_down(
    database: TestDatabase, due: datetime
) -> None:
    await quarterjack.enqueue_many(
        database.pool,
        [
            NewJob(worker="w", scheduled_at=due),
            NewJob(worker="w", scheduled_at=due, unique=Unique()),
        ],
    )

    finite = "SELECT bool_and(isfinite(scheduled_at)) FROM oban_jobs"
    assert await database.pool.fetchval(finite)


async def test_a_number_as_long_as_its_json_reads_is_taken(database: TestDatabase) -> None:
    longest = {"texts": ["9" * 5_000], "number": -(10**999)}
    made = await quarterjack.enqueue(database.pool, "w", longest)

    job = await jobs.find(database.pool, made.id or 0)
    assert job is not None
    assert job.args == longest


async def test_its_unique_insert_finds_our_job_whatever_the_order_of_keys(
    database: TestDatabase,
) -> None:
    made = await quarterjack.enqueue(database.pool, "w", {"a": 1, "b": [1, 2]})

    found = await database.pool.fetchval(CONFLICT, "w", "default", {"b": [2, 1, 1], "a": 1.0})
    assert found == made.id
    assert await database.pool.fetchval(CONFLICT, "w", "default", {"a": 1}) is None


async def _signal(database: TestDatabase, message: dict[str, Any]) -> None:
    await database.pool.execute("SELECT pg_notify('public.oban_signal', $1)", json.dumps(message))


async def _said(service: Service, text: str) -> bool:
    return any(text in line for line in service.lines)
