"""Notifications that never come, come broken, or are refused, and a standby that stalls (F13, F16, F30, F33, F34)."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import asyncpg
import pytest

import quarterjack
from quarterjack_local.postgres import Server
from tests.conftest import TestDatabase
from tests.faults.crew import crew, said
from tests.faults.pair import pair
from tests.faults.pooler import pooled
from tests.flows import end, settle, states
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(240)]
HINTS = """
CREATE TABLE fault_hints (payload text);
CREATE FUNCTION public.pg_notify(channel text, payload text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE instead text;
BEGIN
  IF channel LIKE '%.oban_insert' AND EXISTS (SELECT FROM public.fault_hints) THEN
    FOR instead IN SELECT h.payload FROM public.fault_hints AS h WHERE h.payload <> '' LOOP
      PERFORM pg_catalog.pg_notify(channel, instead);
    END LOOP;
  ELSE
    PERFORM pg_catalog.pg_notify(channel, payload);
  END IF;
END $$;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$;
"""
MALFORMED = (
    "no JSON",
    "\x01\x02\x7f",
    "[" * 7_900,
    '{"queue":' * 800,
    '{"queue": ["default"]}',
    '{"queue": {"default": 1}}',
    '{"queue": 1e400, "ident": null}',
    '"default"',
    "Z:H4sIAAAAAAAA",
    "x" * 7_900,
)
HINTED = "INSERT INTO fault_hints SELECT unnest($1::text[])"
STARTED = """
SELECT extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (ORDER BY attempted_at - inserted_at))::float
FROM oban_jobs
WHERE attempt = 1 AND inserted_at > $1 AND worker IN ('wait', 'wait_in_thread', 'write')
"""
NOW = "SELECT timezone('UTC', clock_timestamp())"
SILENCE = (
    "SELECT extract(epoch FROM max(clock_timestamp() - heartbeat_at))::float FROM qj_producers"
)
POLL = 1.2


@pytest.mark.parametrize("how", ["swallowed", "malformed"])
async def test_f34_hints_that_wake_nobody(
    database: TestDatabase, tmp_path: Path, seed: int, how: str
) -> None:
    """Work goes on within the poll, and everything holds that holds with them (C11)."""
    await database.pool.execute(HINTS)
    await database.pool.expire_connections()
    async with crew(database, tmp_path, seed=seed) as all:
        worker = await all.hire("worker-1", limit=40)
        await database.pool.execute(HINTED, MALFORMED if how == "malformed" else [""])
        began = await all.field.ask(NOW)
        async with all.load():
            await all.field.pass_time(6.0)
        await all.finished()
        assert await all.field.ask(STARTED, began) < POLL
        assert not await said(worker, "listener lost its connection")
        await all.verify()


async def test_f33_the_notification_queue_is_full(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Somebody listens and never looks; all others are told 54000, and may enqueue nevertheless."""
    database = own_server_database
    await _shorten_queue(database)
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1", limit=40)
        async with _full_queue(database), all.field.trouble("full queue"):
            began = await all.field.ask(NOW)
            alone = await quarterjack.enqueue(database.pool, "wait", {"seconds": 0.0})
            assert alone.id
            async with all.load():
                await all.field.pass_time(6.0)
            await all.finished()
            number = await all.field.ask(
                "SELECT count(*) FROM oban_jobs WHERE inserted_at > $1", began
            )
            assert number > 100, "the load was refused"
            assert await all.field.ask(STARTED, began) < POLL
        await all.verify()


async def test_f16_a_workers_half_open_listener_is_noticed(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with crew(database, tmp_path, seed=seed) as all:
        worker = await all.hire("worker-1", limit=40)
        await all.field.pass_time(all.field.dice.uniform(0.0, 5.0))
        began = await all.field.ask(NOW)
        async with all.load():
            assert worker.proxy.forget(b"listener") == 1
            await until(partial(said, worker, "listener lost its connection"), within=7.0)
        await all.finished()
        assert await all.field.ask(STARTED, began) < POLL
        await all.verify()


@pytest.mark.nightly
async def test_f30_a_worker_listens_through_a_transaction_pooler(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with pooled(database) as url, crew(database, tmp_path, seed=seed) as all:
        all.field.pooled = True
        worker = await all.hire(
            "worker-1",
            limit=40,
            DATABASE_URL=url,
            DATABASE_DIRECT_URL=url,
            QUARTERJACK_STATEMENT_CACHE="0",
        )
        began = await all.field.ask(NOW)
        async with all.load():
            await until(partial(said, worker, "listener lost its connection"), within=7.0)
            await all.field.pass_time(3.0)
        await all.finished()
        assert await all.field.ask(STARTED, began) < POLL
        await all.verify()


async def test_f13_workers_outlive_a_standby_that_stalls(
    server: Server, tmp_path: Path, seed: int
) -> None:
    """Every commit waits for it, but for the heartbeats: nobody is taken for dead, nothing is cancelled."""
    async with (
        pair(tmp_path, server.bin_dir, random.Random(seed), synchronous=True) as (two, made),
        crew(made, tmp_path, seed=seed) as all,
    ):
        await all.hire("worker-1", limit=40)
        async with all.load():
            await all.field.pass_time(1.0)
            silences = []
            async with all.field.trouble("stall"):
                two.replication.silent = True
                for _ in range(20):
                    await all.field.pass_time(0.5)
                    silences.append(await all.field.ask(SILENCE))
                two.replication.silent = False
        all.field.diary.note("silences", longest=max(silences))
        await all.verify()
        assert max(silences) < 3.0, silences
        assert "canceling wait" not in two.log()


async def test_f33_jobs_that_others_wait_for_end_although_the_queue_is_full(
    own_server_database: TestDatabase,
) -> None:
    database = own_server_database
    await _shorten_queue(database)
    async with _full_queue(database):
        parent = await quarterjack.enqueue(database.pool, "w")
        child = await quarterjack.enqueue(database.pool, "w", after=[parent.id or 0])
        await end(database.pool, parent.id or 0)
        await settle(database.pool)

        assert await states(database.pool, child.id) == ["available"]


async def _shorten_queue(database: TestDatabase) -> None:
    await database.pool.execute("ALTER SYSTEM SET max_notify_queue_pages = 64")
    await asyncio.to_thread(database.server.stop, "fast")
    await asyncio.to_thread(database.server.start)
    await database.pool.expire_connections()


@asynccontextmanager
async def _full_queue(database: TestDatabase) -> AsyncIterator[None]:
    sleeper, caller = await asyncpg.connect(database.url), await asyncpg.connect(database.url)
    try:
        await sleeper.execute("LISTEN elsewhere")
        await sleeper.execute("BEGIN; SELECT 1")
        with suppress(asyncpg.ProgramLimitExceededError):
            for _ in range(1_000):
                await caller.execute("SELECT pg_notify('elsewhere', repeat('x', 7900))")
            raise AssertionError("the queue takes everything")
        yield
    finally:
        await sleeper.close()
        await caller.close()
