"""What was read of a schedule must stand: an edit or a pause in between stops the request."""

from dataclasses import replace

import pytest

from tests.conftest import TestDatabase
from tests.scheduler.replica import judge, lead, ready, strike

EDITED = {
    "version": "version = version + 1",
    "instant": "updated_at = updated_at + interval '1 us'",
}


async def test_the_watermark_that_was_read_must_stand(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    await database.pool.execute(
        "UPDATE qj_schedules SET next_run_at = next_run_at - interval '1 h'"
    )

    assert await strike(database.pool, verdict, term=term) == (True, [])


async def test_the_version_that_was_read_must_stand(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    await database.pool.execute("""UPDATE qj_schedules SET args = '{"edited": true}'""")

    assert await strike(database.pool, verdict, term=term) == (True, [])
    assert await strike(database.pool, await judge(database.pool, "s"), term=term) != (True, [])


@pytest.mark.parametrize("change", ["version", "instant"])
async def test_another_edit_is_told_from_the_one_that_was_read(
    database: TestDatabase, change: str
) -> None:
    """A failover that loses an edit gives its version to the next one; a clock that is set back, its instant."""
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    await database.pool.execute(
        f"""
        ALTER TABLE qj_schedules DISABLE TRIGGER USER;
        UPDATE qj_schedules SET {EDITED[change]};
        ALTER TABLE qj_schedules ENABLE TRIGGER USER
        """
    )

    assert await strike(database.pool, verdict, term=term) == (True, [])


async def test_a_pause_stops_a_request_on_its_way(database: TestDatabase) -> None:
    term = await lead(database.pool)
    await ready(database)
    verdict = await judge(database.pool, "s")
    await database.pool.execute(
        """
        ALTER TABLE qj_schedules DISABLE TRIGGER USER;
        UPDATE qj_schedules SET paused_at = now();
        ALTER TABLE qj_schedules ENABLE TRIGGER USER
        """
    )

    assert await strike(database.pool, verdict, term=term) == (True, [])


async def test_a_schedule_of_another_version_gives_its_ticks_to_no_other(
    database: TestDatabase,
) -> None:
    term = await lead(database.pool)
    await ready(database, "a")
    await ready(database, "b")
    a, b = await judge(database.pool, "a"), await judge(database.pool, "b")

    stale = replace(a, due=replace(a.due, version=9))
    _, struck = await strike(database.pool, stale, b, term=term)

    assert [tick.schedule_id for tick in struck] == [b.due.id]
