"""Migrations apply once, anywhere, and refuse what they do not understand."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from quarterjack import migrate
from quarterjack.database import from_environment, open_pool
from quarterjack.errors import SchemaOutdated, SchemaUnknown, SettingInvalid
from tests.conftest import TestDatabase

OBAN_COLUMNS = [
    ("id", "bigint", "NO"),
    ("state", "USER-DEFINED", "NO"),
    ("queue", "text", "NO"),
    ("worker", "text", "NO"),
    ("args", "jsonb", "NO"),
    ("errors", "ARRAY", "NO"),
    ("attempt", "integer", "NO"),
    ("max_attempts", "integer", "NO"),
    ("inserted_at", "timestamp without time zone", "NO"),
    ("scheduled_at", "timestamp without time zone", "NO"),
    ("attempted_at", "timestamp without time zone", "YES"),
    ("completed_at", "timestamp without time zone", "YES"),
    ("attempted_by", "ARRAY", "YES"),
    ("discarded_at", "timestamp without time zone", "YES"),
    ("priority", "integer", "NO"),
    ("tags", "ARRAY", "YES"),
    ("meta", "jsonb", "YES"),
    ("cancelled_at", "timestamp without time zone", "YES"),
]


async def test_an_empty_database_becomes_oban_14(empty_database: TestDatabase) -> None:
    applied = await migrate.apply(empty_database.address)

    assert applied[0] == "0001_oban_jobs"
    columns = await empty_database.pool.fetch(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_name = 'oban_jobs' ORDER BY ordinal_position"
    )
    assert [tuple(column) for column in columns] == OBAN_COLUMNS
    marker = await empty_database.pool.fetchval("SELECT obj_description('oban_jobs'::regclass)")
    assert marker == "14"


async def test_a_second_run_has_nothing_to_do(database: TestDatabase) -> None:
    assert await migrate.apply(database.address, optional=migrate.OPTIONAL) == []


async def test_of_two_runners_one_applies_and_one_waits(empty_database: TestDatabase) -> None:
    first, second = await asyncio.gather(
        migrate.apply(empty_database.address), migrate.apply(empty_database.address)
    )

    assert sorted([len(first), len(second)]) == [0, len(migrate.shipped())]


async def test_another_schema_holds_everything(empty_database: TestDatabase) -> None:
    await migrate.apply(replace(empty_database.address, schema="platform"), optional=["telemetry"])

    schemas = await empty_database.pool.fetch(
        "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename ~ '^(qj|oban|otel)_'"
    )
    assert [row["schemaname"] for row in schemas] == ["platform"]


async def test_an_oban_14_database_is_left_as_it_is(empty_database: TestDatabase) -> None:
    script = (migrate.DIRECTORY / "0001_oban_jobs.sql").read_text()
    await empty_database.pool.execute(script)
    await empty_database.pool.execute("INSERT INTO oban_jobs (worker) VALUES ('Elixir.Before')")
    before = await _definition(empty_database)

    await migrate.apply(empty_database.address)

    assert await _definition(empty_database) == before
    assert await empty_database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 1


async def test_a_search_path_of_the_database_itself_is_told(empty_database: TestDatabase) -> None:
    name = await empty_database.pool.fetchval("SELECT current_database()")
    await empty_database.pool.execute("CREATE SCHEMA platform")
    await empty_database.pool.execute(f"ALTER DATABASE {name} SET search_path TO platform")

    with pytest.raises(SettingInvalid, match="QUARTERJACK_SCHEMA=platform"):
        await migrate.apply(empty_database.address)
    with pytest.raises(SettingInvalid, match="QUARTERJACK_SCHEMA=platform"):
        async with open_pool(empty_database.address, name="tests"):
            pass
    assert await migrate.apply(replace(empty_database.address, schema="platform"))


@pytest.mark.parametrize("schema", ["", "Platform", "a-b", "žluť", "x" * 41, "1st", 'a"b'])
def test_a_schema_that_other_obans_could_not_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, schema: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere")
    monkeypatch.setenv("QUARTERJACK_SCHEMA", schema)

    with pytest.raises(SettingInvalid, match="QUARTERJACK_SCHEMA"):
        from_environment()


async def test_an_older_oban_is_refused_with_what_to_do(empty_database: TestDatabase) -> None:
    await empty_database.pool.execute("CREATE TABLE oban_jobs (id bigint)")
    await empty_database.pool.execute("COMMENT ON TABLE oban_jobs IS '12'")

    with pytest.raises(
        asyncpg.RaiseError, match="at Oban version 12, Quarterjack needs 14"
    ) as refusal:
        await migrate.apply(empty_database.address)

    assert "Oban.Migration.up" in str(refusal.value.hint)
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "quarterjack.migrate"),
        env=os.environ | {"DATABASE_URL": empty_database.url},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await command.communicate()
    assert said.decode().count("Oban.Migration.up") == 1


async def test_an_unmigrated_database_is_refused(empty_database: TestDatabase) -> None:
    with pytest.raises(SchemaOutdated, match="run quarterjack-migrate"):
        await migrate.check(empty_database.pool)


async def test_a_missing_migration_is_named(database: TestDatabase) -> None:
    await database.pool.execute("DELETE FROM qj_migrations WHERE name = '0005_admin'")

    with pytest.raises(SchemaOutdated, match="0005_admin"):
        await migrate.check(database.pool)


@pytest.mark.parametrize("later", ["9999_later", "telemetry/9999_later", "other/0001_later"])
async def test_a_newer_release_lets_this_one_run(
    database: TestDatabase, later: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While a deploy rolls, and after it was taken back."""
    await database.pool.execute("INSERT INTO qj_migrations (name, digest) VALUES ($1, 'x')", later)

    await migrate.check(database.pool)

    assert await migrate.apply(database.address) == []
    assert f"migrated by a newer release ({later})" in caplog.text


@pytest.mark.parametrize("other", ["0001_other", "telemetry/0001_other"])
async def test_another_line_of_releases_is_refused(database: TestDatabase, other: str) -> None:
    await database.pool.execute("INSERT INTO qj_migrations (name, digest) VALUES ($1, 'x')", other)

    with pytest.raises(SchemaUnknown, match=f"{other}.*another line of releases"):
        await migrate.check(database.pool)
    with pytest.raises(SchemaUnknown, match="another line of releases"):
        await migrate.apply(database.address)


async def test_an_edited_file_is_refused(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telemetry").mkdir()
    for file in migrate.DIRECTORY.rglob("*.sql"):
        text = file.read_text() + ("-- edited\n" if file.name == "0003_working.sql" else "")
        (tmp_path / file.relative_to(migrate.DIRECTORY)).write_text(text)
    monkeypatch.setattr(migrate, "DIRECTORY", tmp_path)

    with pytest.raises(SchemaUnknown, match="0003_working changed after it was applied"):
        await migrate.check(database.pool)


async def test_an_interrupted_index_build_is_repeated(database: TestDatabase) -> None:
    await database.pool.execute("DELETE FROM qj_migrations WHERE name = '0004_job_indexes'")

    assert await migrate.apply(database.address) == ["0004_job_indexes"]


async def _definition(database: TestDatabase) -> list[tuple[str, ...]]:
    rows = await database.pool.fetch(
        """
        SELECT column_name, data_type, coalesce(column_default, ''), is_nullable
        FROM information_schema.columns WHERE table_name = 'oban_jobs'
        UNION ALL
        SELECT conname, pg_get_constraintdef(oid), '', '' FROM pg_constraint
        WHERE conrelid = 'oban_jobs'::regclass
        UNION ALL
        SELECT indexname, indexdef, '', '' FROM pg_indexes
        WHERE tablename = 'oban_jobs' AND indexname LIKE 'oban%'
        ORDER BY 1, 2
        """
    )
    return [tuple(row) for row in rows]


async def test_a_table_in_use_is_not_waited_for_long(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LONGEST_WAIT", 1)
    await database.pool.execute(
        """
        DROP TRIGGER qj_ring ON oban_jobs;
        DROP FUNCTION qj_ring_inserts;
        DROP TABLE qj_job_types, qj_producers CASCADE;
        DELETE FROM qj_migrations WHERE name = '0003_working'
        """
    )
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE oban_jobs IN ROW EXCLUSIVE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await migrate.apply(database.address, optional=migrate.OPTIONAL)

    assert await migrate.apply(database.address, optional=migrate.OPTIONAL) == ["0003_working"]
