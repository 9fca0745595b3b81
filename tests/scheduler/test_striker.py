"""Many overdue schedules, whose decisions take their time."""

from itertools import count

import pytest

from quarterjack.queries import clock, ticks
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler import striker
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.striker import Striker
from tests.conftest import TestDatabase
from tests.scheduler.replica import AGO, lead, ready


async def test_what_takes_long_is_sent_in_parts_so_that_its_leader_stays(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(striker, "boot", count().__next__)
    progress = list[None]()
    election = Election(database.address, Peer.named("n"), changed=lambda: None)
    for name in "abc":
        await ready(database, name)
    async with database.pool.acquire() as db:
        term = await lead(db, election.peer.uuid)
        rows, now = (
            await ticks.due(db, horizon=AGO, grace=AGO, limit=10, most_overdue=10),
            await clock.now(db),
        )
        sending = Striker(election, Telemetry("scheduler", "n"), lambda: progress.append(None))

        assert await sending.strike_late(db, rows, {}, term, now) == (True, True)

    assert len(progress) == 3
    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 3


async def test_nothing_more_is_sent_once_another_leads(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(striker, "boot", count().__next__)
    sent = list[None]()
    election = Election(database.address, Peer.named("n"), changed=lambda: None)
    for name in "abc":
        await ready(database, name)
    async with database.pool.acquire() as db:
        term = await lead(db, election.peer.uuid)
        rows = await ticks.due(db, horizon=AGO, grace=AGO, limit=10, most_overdue=10)
        now = await clock.now(db)
        await lead(db)
        sending = Striker(election, Telemetry("scheduler", "n"), lambda: sent.append(None))

        assert await sending.strike_late(db, rows, {}, term, now) == (False, False)

    assert len(sent) == 1
