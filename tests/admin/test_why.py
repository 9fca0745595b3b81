"""Why did it not run? The ledger answers for any instant."""

from datetime import UTC, datetime

import pytest

from tests.admin.conftest import Admin
from tests.conftest import TestDatabase

MADE = """
INSERT INTO qj_schedules (name, worker, cron, timezone, planned_from, next_run_at, applied_version, end_at)
VALUES ('nightly', 'w', '0 8 * * *', 'Europe/Prague', '2026-03-01T00:00Z', '2026-03-20T07:00Z', 1, '2026-03-25T00:00Z')
RETURNING id
"""
OLD = "UPDATE qj_schedule_versions SET created_at = '2026-03-01T00:00Z'"
DECIDE = """
INSERT INTO qj_ticks (schedule_id, tick_at, until_at, outcome, reason, job_id, version, decided_at)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7)
"""


def at(day: int, hour: int = 7, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, second, tzinfo=UTC)


async def made(database: TestDatabase) -> int:
    id: int = await database.pool.fetchval(MADE)
    await database.pool.execute(OLD)
    for line in (
        (at(2), None, "enqueued", None, 41, at(2)),
        (at(3), None, "skipped_overlap", "job 41 of this schedule had not ended", None, at(3)),
        (at(4), None, "blackout", "in the window sat,sun", None, at(4)),
        (at(5), at(8), "coalesced", "coalesced into the run of the 9th", None, at(9)),
        (at(9), None, "enqueued", None, 42, at(9, 7, 2)),
        (at(10, 0), at(12), "paused", "paused by ana: stocktaking", None, at(13)),
        (at(13), None, "frozen", "everything was frozen by ben: incident", None, at(13)),
    ):
        await database.pool.execute(DECIDE, id, *line)
    await database.pool.execute(
        "INSERT INTO qj_terms (term, holder, node, free_since, acquired_at) "
        "VALUES (7, gen_random_uuid(), 'scheduler-2', $1, $2)",
        at(9, 6, 59),
        at(9, 7, 2),
    )
    return id


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("2026-03-02 08:00", "has a tick at this instant"),
        ("2026-03-02 08:00", "Enqueued. Job 41"),
        ("2026-03-02T07:00Z", "Enqueued. Job 41"),
        ("2026-03-02 09:00", "has no tick at this instant"),
        ("2026-03-03 08:00", "job 41 of this schedule had not ended"),
        ("2026-03-04 08:00", "In a blackout: in the window sat,sun"),
        ("2026-03-06 08:00", "Coalesced into a later run"),
        ("2026-03-09 08:00", "Enqueued, 2 m late"),
        ("2026-03-09 08:00", "No scheduler led from 06:59:00 to 07:02:00 UTC, for 3 m"),
        ("2026-03-11 08:00", "paused by ana: stocktaking"),
        ("2026-03-13 08:00", "frozen by ben: incident"),
        ("2026-03-20 08:00", "No scheduler has decided it yet"),
        ("2026-03-26 08:00", "which is after its end"),
        ("2026-02-01 08:00", "There was no such schedule then"),
    ],
)
async def test_the_ledger_answers(admin: Admin, asked: str, said: str) -> None:
    await made(admin.database)
    visitor = await admin.signed_in(role="viewer")
    asked = asked.replace(" ", "%20")

    page = await visitor.get(f"/schedules/nightly/why?at={asked}")

    assert page.status == 200
    assert said in page.text


async def test_what_is_no_time_is_said(admin: Admin) -> None:
    await made(admin.database)
    visitor = await admin.signed_in()

    page = await visitor.get("/schedules/nightly/why?at=yesterday")

    assert page.status == 422
    assert "give a time" in page.text


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59.999999Z", "0001-01-01", "0001-01-02T00:00Z"])
async def test_the_ends_of_the_calendar_are_answered(admin: Admin, at: str) -> None:
    await made(admin.database)
    await admin.database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron, timezone) VALUES ('west', 'w', '0 0 * * *', 'America/Adak')"
    )
    visitor = await admin.signed_in()

    for name in ("nightly", "west"):
        assert (await visitor.get(f"/schedules/{name}/why?at={at}")).status in (200, 422)


async def test_a_lost_decision_is_said(admin: Admin) -> None:
    id = await made(admin.database)
    await admin.database.pool.execute(
        "INSERT INTO qj_lost_ticks (schedule_id, tick_at, job_id, decided_at, reported_by) "
        "VALUES ($1, $2, 40, $2, 'scheduler-1')",
        id,
        at(2),
    )
    visitor = await admin.signed_in()

    page = await visitor.get("/schedules/nightly/why?at=2026-03-02%2008:00")

    assert "took back an earlier decision, job 40" in page.text
    assert "took back 1 decided ticks" in page.text
