"""What the leader makes of the answers to its requests."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from quarterjack.database import Connection
from quarterjack.queries import clock, jobs, ticks
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.striker import Ready, Striker
from tests.conftest import TestDatabase
from tests.scheduler.replica import AGO, lead, ready

STRIKE = ticks.strike


@pytest.fixture
async def db(database: TestDatabase) -> AsyncIterator[Connection]:
    async with database.pool.acquire() as db:
        yield db


async def prepared(
    database: TestDatabase, db: Connection, names: str
) -> tuple[Striker, Election, list[Ready], int]:
    """Schedules that are due, their requests, and who sends them under which term."""
    election = Election(database.address, Peer.named("n"), changed=lambda: None)
    for name in names:
        await ready(database, name)
    term = await lead(db, election.peer.uuid)
    rows = await ticks.due(db, horizon=AGO, grace=AGO, limit=10, most_overdue=10)
    sending = Striker(election, Telemetry("scheduler", "n"), lambda: None)
    batch, whole = await sending.prepare(db, rows, {}, term, await clock.now(db))
    assert (len(batch), whole) == (len(names), True)
    return sending, election, batch, term


@pytest.mark.parametrize(
    ("error", "sick"), [(asyncpg.LockNotAvailableError, False), (asyncpg.DiskFullError, True)]
)
async def test_only_what_the_server_itself_refuses_makes_its_leader_sick(
    database: TestDatabase,
    db: Connection,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    sick: bool,
) -> None:
    """A leader that is sick leaves the lease to others; a lock that somebody holds is no reason for that."""

    async def refused(*_: Any, **__: Any) -> None:
        raise error("no")

    sending, _, batch, term = await prepared(database, db, "a")
    monkeypatch.setattr(ticks, "strike", refused)
    assert not await sending.strike(db, batch, term)
    assert sending.sick == sick

    monkeypatch.setattr(ticks, "strike", STRIKE)
    assert await sending.strike(db, batch, term)
    assert not sending.sick


async def test_what_is_refused_again_and_again_is_said_once(
    database: TestDatabase,
    db: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sending, _, batch, term = await prepared(database, db, "a")
    for why in ("no rights", "no rights", "no space"):

        async def refused(*_: Any, why: str = why, **__: Any) -> None:
            raise asyncpg.DiskFullError(why)

        monkeypatch.setattr(ticks, "strike", refused)
        await sending.strike(db, batch, term)

    assert [record.getMessage() for record in caplog.records] == [
        "could not fire a: no rights; trying again",
        "could not fire a: no space; trying again",
    ]


async def test_a_leader_that_is_fenced_looks_who_leads_at_once(
    database: TestDatabase, db: Connection
) -> None:
    sending, election, batch, term = await prepared(database, db, "a")
    await lead(db)

    assert not await sending.strike(db, batch, term)
    assert election._woken.is_set()


async def test_what_was_edited_meanwhile_is_tried_again_soon(
    database: TestDatabase, db: Connection
) -> None:
    sending, _, batch, term = await prepared(database, db, "ab")
    await db.execute("UPDATE qj_schedules SET queue = 'other' WHERE name = 'b'")

    assert not await sending.strike(db, batch, term)
    assert await db.fetchval("SELECT count(*) FROM oban_jobs") == 1


async def test_a_ring_that_is_lost_leaves_what_was_sent_as_sent(
    database: TestDatabase, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers look by themselves."""

    async def lost(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    sending, _, batch, term = await prepared(database, db, "a")
    monkeypatch.setattr(jobs, "ring", lost)

    assert await sending.strike(db, batch, term)


async def test_a_reason_that_no_text_can_hold_sets_aside_all_the_same(
    database: TestDatabase, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise ValueError("a zone\x00 of no name")

    sending, _, batch, term = await prepared(database, db, "a")
    monkeypatch.setattr(ticks, "strike", refused)

    assert await sending.strike(db, batch, term)
    assert await db.fetchval("SELECT broken_reason FROM qj_schedules") == "a zone of no name"
