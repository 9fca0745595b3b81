"""What jobs carried is in their indexes long after they are gone, until the leader builds these anew."""

import asyncio
import logging

import asyncpg
import pytest

from quarterjack.database import Pool
from quarterjack.queries import reindexing as queries
from quarterjack_scheduler import reindexing
from quarterjack_scheduler.reindexing import EVERY, reindex
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.shared.test_rights import give_rights
from tests.waiting import until

BOTH = ["oban_jobs_args_index", "oban_jobs_meta_index"]
CARRY = """
INSERT INTO oban_jobs (worker, args, meta)
SELECT 'w', jsonb_build_object('of', gen_random_uuid()), jsonb_build_object('of', gen_random_uuid())
FROM generate_series(1, 2000)
"""
SIZES = "SELECT sum(pg_relation_size(name::regclass)) FROM unnest($1::text[]) AS name"
VALID = """
SELECT c.relname, x.indisvalid FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indexrelid
WHERE x.indrelid = 'oban_jobs'::regclass AND (c.relname LIKE '%args%' OR c.relname LIKE '%meta%') ORDER BY 1
"""
LEAVE = """
CREATE INDEX oban_jobs_args_index_ccnew ON oban_jobs USING gin (args);
CREATE INDEX oban_jobs_meta_index_ccold ON oban_jobs USING gin (meta);
UPDATE pg_index SET indisvalid = false
WHERE indexrelid IN ('oban_jobs_args_index_ccnew'::regclass, 'oban_jobs_meta_index_ccold'::regclass);
"""
GONE = "SELECT count(*) = 0 FROM pg_class WHERE relname LIKE 'oban%_cc%'"
BUILT = (
    "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database())"
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is small is worth a rebuild as well."""
    monkeypatch.setattr(reindexing, "LEAST", 2**16)


async def outgrow(pool: Pool) -> int:
    """Have jobs come and go; the size of what they leave in both indexes."""
    await pool.execute(CARRY)
    await pool.execute("DELETE FROM oban_jobs")
    await pool.execute("VACUUM oban_jobs")
    size: int = await pool.fetchval(SIZES, BOTH)
    return size


async def test_an_index_that_has_outgrown_its_table_is_built_anew(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    size = await outgrow(database.pool)

    async with database.pool.acquire() as connection:
        assert await reindex(connection) == EVERY
        assert await queries.outgrown(connection, least=2**16) == []

    assert await database.pool.fetchval(SIZES, BOTH) < size / 5
    assert [tuple(record) for record in await database.pool.fetch(VALID)] == [
        (name, True) for name in BOTH
    ]
    assert [
        record.getMessage() for record in caplog.records if record.name == reindexing.__name__
    ] == [
        said
        for name in BOTH
        for said in (f"building {name} anew, which has outgrown its table", f"built {name} anew")
    ]


async def test_one_that_is_no_larger_than_its_table_is_left(database: TestDatabase) -> None:
    await database.pool.execute(CARRY)
    await database.pool.execute(
        "ALTER TABLE oban_jobs ADD COLUMN large text DEFAULT repeat('x', 900)"
    )
    await database.pool.execute("UPDATE oban_jobs SET worker = 'v'")

    assert await queries.outgrown(database.pool, least=0) == []


async def test_a_leader_drops_what_an_earlier_rebuild_has_left(database: TestDatabase) -> None:
    await database.pool.execute(LEAVE)
    async with cluster(database) as running:
        await running.scheduler()
        await until(lambda: database.pool.fetchval(GONE), within=20)

        built = await database.pool.fetch(VALID)

    assert [tuple(record) for record in built] == [(name, True) for name in BOTH]


async def test_jobs_come_and_go_while_an_index_is_built(database: TestDatabase) -> None:
    """It waits for the transaction that began before, and nobody begins another meanwhile."""
    await outgrow(database.pool)
    async with database.pool.acquire() as old, database.pool.acquire() as connection:
        async with old.transaction():
            await old.execute("INSERT INTO oban_jobs (worker) VALUES ('early')")
            building = asyncio.create_task(reindex(connection))
            await until(lambda: database.pool.fetchval(BUILT))

            await database.pool.execute("INSERT INTO oban_jobs (worker) VALUES ('meanwhile')")
            await database.pool.execute("DELETE FROM oban_jobs WHERE worker = 'meanwhile'")
            assert await queries.outgrown(database.pool, least=2**16) == []
            assert not building.done()
        await building


async def test_who_may_not_build_it_says_who_can(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    await give_rights(database)
    await outgrow(database.pool)
    connection = await asyncpg.connect(database.url.replace("postgres@", "quarterjack@"))
    try:
        assert await reindex(connection) == EVERY
    finally:
        await connection.close()

    for record, name in zip(caplog.records, BOTH, strict=True):
        assert record.getMessage().startswith(f"could not build {name} anew: ")
        assert record.getMessage().endswith("; its owner has to reindex it")
