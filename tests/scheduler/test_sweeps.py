"""How often the leader's chores come, and whom a sweep believes dead."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from quarterjack.database import Connection
from quarterjack.queries import clock
from quarterjack.queries import upkeep as queries
from quarterjack_scheduler import upkeep
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.turns import Turn
from quarterjack_scheduler.upkeep import RETRY, SWEEP_EVERY, Rescuer, repeat, stage
from tests.conftest import TestDatabase
from tests.scheduler.replica import Replica, replica
from tests.scheduler.rows import add_job, add_producer
from tests.waiting import until

DEAD = "SELECT count(*) FROM qj_producers WHERE state = 'dead'"
A_NODE_EACH = "UPDATE qj_producers SET node = uuid::text"


def steady(monkeypatch: pytest.MonkeyPatch) -> tuple[Rescuer, list[float]]:
    """A rescuer that has seen the database answer for long enough, and its clock."""
    clock = [100.0]
    monkeypatch.setattr(upkeep, "boot", lambda: clock[0])
    rescuer = Rescuer()
    for clock[0] in range(100, 120):
        rescuer.saw(orphaned=False)
    return rescuer, clock


@pytest.mark.parametrize(("many", "dead"), [(2, [2, 2]), (3, [0, 3])])
async def test_many_that_fall_silent_together_are_given_a_sweep(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, many: int, dead: list[int]
) -> None:
    for _ in range(many):
        await add_producer(database.pool, silent_for="9 s")
    await database.pool.execute(A_NODE_EACH)
    rescuer, _ = steady(monkeypatch)
    seen = []

    async with database.pool.acquire() as db:
        for _ in dead:
            await rescuer.sweep(db)
            seen.append(await db.fetchval(DEAD))

    assert seen == dead


async def test_a_sweep_that_was_not_answered_is_an_outage(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short: those who are silent since could not beat either."""
    await add_producer(database.pool, silent_for="9 s")
    rescuer, clock = steady(monkeypatch)
    silent_producers = queries.silent_producers

    async def unanswered(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    async with database.pool.acquire() as db:
        monkeypatch.setattr(queries, "silent_producers", unanswered)
        with pytest.raises(ConnectionResetError):
            await rescuer.sweep(db)
        monkeypatch.setattr(queries, "silent_producers", silent_producers)
        clock[0] += 1.0

        assert await rescuer.sweep(db) == SWEEP_EVERY
        assert await db.fetchval(DEAD) == 0


async def test_while_there_is_more_chores_come_at_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RESCUE_LIMIT", 2)
    monkeypatch.setattr(upkeep, "STAGE_LIMIT", 2)
    gone = ["n", "00000000-0000-0000-0000-000000000000", "nonce"]
    for n in range(3):
        await add_job(database.pool, "w", state="executing", attempt=1, attempted_by=gone)
        await add_job(database.pool, f"s{n}", state="scheduled", due_in="-1 s")
    rescuer = Rescuer()

    async with database.pool.acquire() as db:
        assert [await rescuer.sweep(db) for _ in range(3)] == [0.0, SWEEP_EVERY, None]
        assert [await stage(db) for _ in range(3)] == [0.0, None, None]


async def test_a_chore_is_the_leaders_and_rests_in_between(database: TestDatabase) -> None:
    done: list[str] = []

    async def follow(_: Connection) -> None:
        done.append("followed")

    async def lead(_: Connection) -> float:
        done.append("led")
        return 3600.0

    follower = Election(database.address, Peer.named("n"), changed=lambda: None)
    turn = Turn()
    async with replica(database.address) as leader:
        await until(partial(_leads, leader))
        chores = [
            asyncio.create_task(repeat(database.pool, follower, follow, "follow")),
            asyncio.create_task(repeat(database.pool, leader.election, lead, "lead", turn=turn)),
        ]
        await until(partial(_contains, done, 1))
        turn.ring()
        await until(partial(_contains, done, 2))
        for _ in range(5):
            await clock.now(database.pool)  # one that did not rest would be done again meanwhile
        for chore in chores:
            chore.cancel()

    assert done == ["led", "led"]


async def _leads(leader: Replica) -> bool:
    return leader.election.term is not None


async def _contains(done: list[str], number: int) -> bool:
    return len(done) >= number


async def test_a_due_job_that_somebody_holds_is_not_waited_for_in_haste(
    database: TestDatabase,
) -> None:
    await add_job(database.pool, "w", state="scheduled", due_in=timedelta(seconds=-9))
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM oban_jobs FOR UPDATE")

        async with database.pool.acquire() as db:
            assert await stage(db) == RETRY
