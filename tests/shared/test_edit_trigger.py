"""An edit by anyone makes a version, replans the ticks it moves, and leaves no span unexplained."""

from datetime import timedelta

import pytest

from tests.conftest import TestDatabase

SCHEDULE = (
    "INSERT INTO qj_schedules (name, worker, cron) VALUES ('s', 'w', '* * * * *') RETURNING id"
)


async def test_a_changed_cron_is_planned_anew(database: TestDatabase) -> None:
    id = await database.pool.fetchval(SCHEDULE)
    await database.pool.execute("UPDATE qj_schedules SET next_run_at = now() + interval '1 h'")

    await database.pool.execute("UPDATE qj_schedules SET cron = '*/5 * * * *'")

    row = await database.pool.fetchrow("SELECT * FROM qj_schedules")
    assert row is not None
    assert (row["version"], row["next_run_at"]) == (2, None)
    versions = await database.pool.fetch("SELECT * FROM qj_schedule_versions ORDER BY version")
    assert [(v["version"], v["definition"]["cron"]) for v in versions] == [
        (1, "* * * * *"),
        (2, "*/5 * * * *"),
    ]
    assert (
        await database.pool.fetchval("SELECT count(*) FROM qj_ticks WHERE schedule_id = $1", id)
        == 0
    )


async def test_changed_args_keep_the_watermark(database: TestDatabase) -> None:
    await database.pool.execute(SCHEDULE)
    await database.pool.execute("UPDATE qj_schedules SET next_run_at = '2030-01-01'")

    await database.pool.execute("""UPDATE qj_schedules SET args = '{"a": 1}'""")

    assert (
        await database.pool.fetchval(
            "SELECT version FROM qj_schedules WHERE next_run_at = '2030-01-01'"
        )
        == 2
    )


async def test_ticks_due_before_the_edit_are_recorded_as_superseded(database: TestDatabase) -> None:
    await database.pool.execute(SCHEDULE)
    await database.pool.execute("UPDATE qj_schedules SET next_run_at = now() - interval '1 h'")

    await database.pool.execute("UPDATE qj_schedules SET timezone = 'Europe/Prague'")

    [row] = await database.pool.fetch("SELECT * FROM qj_ticks")
    assert (row["outcome"], row["version"]) == ("superseded", 1)
    assert row["until_at"] > row["tick_at"]


async def test_a_pause_is_a_span_with_its_reason(database: TestDatabase) -> None:
    await database.pool.execute(SCHEDULE)
    await database.pool.execute("UPDATE qj_schedules SET next_run_at = now() + interval '1 h'")
    await database.pool.execute(
        "UPDATE qj_schedules SET paused_at = now(), paused_by = 'ben', paused_reason = 'disk full'"
    )
    await database.pool.execute("""UPDATE qj_schedules SET args = '{"while": "paused"}'""")

    await database.pool.execute("UPDATE qj_schedules SET paused_at = NULL")

    spans = await database.pool.fetch("SELECT * FROM qj_ticks ORDER BY tick_at")
    assert [span["outcome"] for span in spans] == ["paused", "paused"]
    assert spans[1]["tick_at"] - spans[0]["until_at"] == timedelta(microseconds=1)
    assert spans[0]["reason"] == "paused by ben: disk full"
    row = await database.pool.fetchrow(
        "SELECT paused_by, paused_reason, next_run_at FROM qj_schedules"
    )
    assert row is not None
    assert tuple(row) == (None, None, None)


async def test_the_reason_of_the_session_is_kept(database: TestDatabase) -> None:
    await database.pool.execute(SCHEDULE)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('quarterjack.reason', 'quieter nights', true)")
        await connection.execute("UPDATE qj_schedules SET cron = '0 6 * * *', updated_by = 'ana'")

    version = await database.pool.fetchrow(
        "SELECT author, reason FROM qj_schedule_versions WHERE version = 2"
    )
    assert version is not None
    assert tuple(version) == ("ana", "quieter nights")


async def test_advancing_the_watermark_is_no_edit(database: TestDatabase) -> None:
    await database.pool.execute(SCHEDULE)

    await database.pool.execute(
        "UPDATE qj_schedules SET next_run_at = now(), last_tick_at = now(), broken_reason = 'x'"
    )

    assert (
        await database.pool.fetchval("SELECT version FROM qj_schedules WHERE broken_reason = 'x'")
        == 1
    )


async def test_a_clock_that_was_set_back_plans_nothing_again(database: TestDatabase) -> None:
    await database.pool.execute(SCHEDULE)
    await database.pool.execute("UPDATE qj_schedules SET planned_from = now() + interval '20 s'")

    for cron in ("*/2 * * * *", "*/3 * * * *"):
        await database.pool.execute("UPDATE qj_schedules SET cron = $1", cron)

    row = await database.row(
        "SELECT planned_from > now() + interval '10 s' AS kept, "
        "(SELECT count(*) FROM qj_ticks) AS lines FROM qj_schedules"
    )
    assert tuple(row) == (True, 0)


@pytest.mark.parametrize(("paused_at", "outcome"), [("NULL", "superseded"), ("now()", "paused")])
async def test_a_span_begins_after_what_was_decided(
    database: TestDatabase, paused_at: str, outcome: str
) -> None:
    await database.pool.execute(SCHEDULE)
    await database.pool.execute(f"UPDATE qj_schedules SET paused_at = {paused_at}")
    await database.pool.execute(
        "UPDATE qj_schedules SET planned_from = now() - interval '1 h', last_tick_at = now() - interval '1 min'"
    )

    await database.pool.execute("UPDATE qj_schedules SET cron = '@hourly', paused_at = NULL")

    [line] = await database.pool.fetch(
        "SELECT tick_at - last_tick_at AS after, until_at - tick_at AS length "
        "FROM qj_ticks JOIN qj_schedules AS s ON s.id = schedule_id WHERE outcome = $1",
        outcome,
    )
    assert timedelta(0) < line["after"] < line["length"]
