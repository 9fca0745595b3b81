"""The refresh of the trace summaries, in each state that the view can be in."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from quarterjack.database import Connection, Pool, open_pool
from quarterjack.model import Job, JobState
from quarterjack.queries.claims import Claim
from quarterjack_worker import Context, Discard, Snooze
from quarterjack_worker.jobs import refresh_trace_summaries as module
from quarterjack_worker.jobs.refresh_trace_summaries import RefreshFailed, refresh_trace_summaries
from tests.conftest import TestDatabase
from tests.waiting import until

POPULATED = "SELECT relispopulated FROM pg_class WHERE relname = 'otel_trace_summaries'"
REFRESHES = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'REFRESH%' AND state = 'active'
"""


def context(pool: Pool) -> Context:
    now = datetime.now(UTC)
    job = Job(
        id=1,
        state=JobState.EXECUTING,
        queue="maintenance",
        worker="refresh",
        args={},
        meta={"cron_expr": "* * * * * *", "cron_tz": "Etc/UTC"},
        tags=[],
        errors=[],
        attempt=1,
        max_attempts=3,
        priority=0,
        attempted_by=["n", "p", "nonce"],
        inserted_at=now,
        scheduled_at=now,
        attempted_at=now,
        completed_at=None,
        cancelled_at=None,
        discarded_at=None,
    )
    claim = Claim(1, "nonce")
    return Context(job=job, claim=claim, handlers_pool=pool, told=lambda *_: None)


async def refresh(pool: Pool) -> object:
    return await refresh_trace_summaries({}, context(pool))


@asynccontextmanager
async def held(database: TestDatabase, relation: str) -> AsyncIterator[Connection]:
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {relation} IN ACCESS EXCLUSIVE MODE")
        yield connection


async def test_a_view_that_was_never_filled_is_filled(database: TestDatabase) -> None:
    assert await refresh(database.pool) is None

    assert await database.pool.fetchval(POPULATED)


async def test_readers_go_on_while_it_refreshes(database: TestDatabase) -> None:
    await refresh(database.pool)
    async with held(database, "otel_traces"):
        refreshing = asyncio.create_task(refresh(database.pool))
        await until(lambda: database.pool.fetchval(REFRESHES))

        read = await database.pool.fetchval("SELECT count(*) FROM otel_trace_summaries", timeout=5)

    assert read == 0
    assert await refreshing is None


async def test_no_view_is_discarded(database: TestDatabase) -> None:
    await database.pool.execute("DROP MATERIALIZED VIEW otel_trace_summaries")

    outcome = await refresh(database.pool)

    assert isinstance(outcome, Discard)
    assert "--with telemetry" in outcome.reason


@pytest.mark.parametrize(
    ("replacement", "said"),
    [
        ("CREATE TABLE otel_trace_summaries (trace_id text)", "is a table"),
        ("CREATE VIEW otel_trace_summaries AS SELECT 1 AS trace_id", "is a plain view"),
    ],
)
async def test_something_else_by_that_name_is_discarded(
    database: TestDatabase, replacement: str, said: str
) -> None:
    await database.pool.execute("DROP MATERIALIZED VIEW otel_trace_summaries")
    await database.pool.execute(replacement)

    outcome = await refresh(database.pool)

    assert isinstance(outcome, Discard)
    assert said in outcome.reason


async def test_a_missing_unique_index_fails_with_the_statement_to_run(
    database: TestDatabase,
) -> None:
    await refresh(database.pool)
    await database.pool.execute("DROP INDEX otel_trace_summaries_trace_id")

    with pytest.raises(RefreshFailed, match="CREATE UNIQUE INDEX"):
        await refresh(database.pool)


async def test_a_role_without_the_right_fails_saying_so(database: TestDatabase) -> None:
    await refresh(database.pool)
    await database.pool.execute(
        "DO $$ BEGIN CREATE ROLE nobody_much LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    await database.pool.execute("GRANT SELECT ON otel_traces, otel_trace_summaries TO nobody_much")
    url = database.url.replace("postgres@", "nobody_much@")
    address = replace(database.address, url=url, direct_url=url)

    async with open_pool(address, name="nobody") as pool:
        with pytest.raises(RefreshFailed, match="must own"):
            await refresh(pool)


async def test_a_view_that_another_refresh_holds_is_snoozed(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_PATIENCE", "50ms")
    await refresh(database.pool)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY otel_trace_summaries")

        assert isinstance(await refresh(database.pool), Snooze)


async def test_a_refresh_that_takes_too_long_fails_saying_so(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refresh(database.pool)
    monkeypatch.setattr(module, "STATEMENT_PATIENCE", timedelta(seconds=1))
    async with held(database, "otel_traces"):
        with pytest.raises(RefreshFailed, match="took longer than 0:00:01"):
            await refresh(database.pool)


async def test_a_refresh_slower_than_half_its_cadence_warns(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    await refresh(database.pool)
    slow = context(database.pool)
    async with held(database, "otel_traces") as connection:
        refreshing = asyncio.create_task(refresh_trace_summaries({}, slow))
        began = await connection.fetchval("SELECT clock_timestamp()")
        with caplog.at_level(logging.WARNING):
            await until(
                lambda: connection.fetchval(
                    "SELECT clock_timestamp() > $1::timestamptz + interval '0.7 s'", began
                )
            )
    await refreshing

    assert "more than half of the 1 s" in (slow.notes["warning"])
    assert "more than half of the 1 s" in caplog.text
