"""What the election survives, and that nothing goes on without it."""

import asyncio
from functools import partial
from typing import Any
from unittest import mock

import asyncpg
import pytest

from quarterjack.clock import boot
from quarterjack.database import connect, open_pool
from quarterjack.queries import lease
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler.election import Election, ElectionEnded, Peer
from quarterjack_scheduler.tick_loop import TickLoop
from tests.conftest import TestDatabase
from tests.scheduler.replica import replica
from tests.waiting import until

BEAT = lease.beat
HELD = "SELECT holder IS NOT NULL FROM qj_lease"


async def test_a_session_ended_just_before_its_use_costs_one_beat(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([asyncpg.InternalClientError("another operation is in progress")] * 2)

    async def beat(*arguments: Any, **named: Any) -> lease.Standing:
        if (error := next(failures, None)) is not None:
            raise error
        return await BEAT(*arguments, **named)

    monkeypatch.setattr(lease, "beat", beat)
    async with replica(database.address) as one:
        await until(lambda: _leads(one.election))


async def test_without_its_election_a_replica_ends(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def beat(*_: Any, **__: Any) -> lease.Standing:
        raise LookupError("nobody expects this")

    monkeypatch.setattr(lease, "beat", beat)
    async with open_pool(database.address, name="replica") as pool:
        election = Election(database.address, Peer.named("a"), changed=lambda: None)
        looking = TickLoop(pool, election, schema="public", telemetry=Telemetry("s", "a"))
        election.start()

        with pytest.raises(ElectionEnded):
            async with asyncio.timeout(15):
                await looking.run(asyncio.Event())

        election.wake()
        await election.stop()


async def test_who_is_not_answered_leads_no_longer_than_it_may(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def beat(*_: Any, **__: Any) -> lease.Standing:
        raise ConnectionResetError

    async with replica(database.address) as one:
        await until(lambda: _leads(one.election))
        monkeypatch.setattr(lease, "beat", beat)

        await until(lambda: _follows(one.election))


async def test_a_slow_answer_is_trusted_from_when_it_was_asked_for(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both that of a beat and that which gives the lease: its time runs from the earlier instant at worst."""
    clock = [boot()]
    monkeypatch.setattr("quarterjack_scheduler.election.boot", lambda: clock[0])
    election = Election(database.address, Peer.named("a"), changed=lambda: None)

    async def slowly(ask: Any, *arguments: Any, **named: Any) -> Any:
        answer = await ask(*arguments, **named)
        clock[0] += 1.0
        return answer

    monkeypatch.setattr(lease, "beat", partial(slowly, lease.beat))
    monkeypatch.setattr(lease, "acquire", partial(slowly, lease.acquire))
    db = await connect(database.address, name="beat")
    try:
        for asked_after in (1.0, 0.0):
            asked_at = clock[0] + asked_after
            election.progressed()
            await election._beat(db)

            assert election._trusted_until == pytest.approx(asked_at + 1.3)
            clock[0] = asked_at
    finally:
        await db.close()


async def test_a_replica_that_is_stuck_gives_its_lease_up_and_lets_others_try_first(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it seek one before its tick loop has finished a pass."""
    clock, changes = [boot()], list[int]()
    monkeypatch.setattr("quarterjack_scheduler.election.boot", lambda: clock[0])
    election = Election(database.address, Peer.named("a"), changed=lambda: changes.append(1))
    passes = ((0, False), (0, True), (2.5, False), (0.4, False), (0.4, True), (5.0, True))
    seen = []
    db = await connect(database.address, name="beat")
    try:
        for passed, finished in passes:
            clock[0] += passed
            if finished:
                election.progressed()
            await election._beat(db)
            seen.append((await db.fetchval(HELD), election._term, len(changes)))
    finally:
        await db.close()

    assert seen == [
        (False, 0, 0),
        (True, 1, 1),
        (True, 1, 1),
        (False, 0, 2),
        (False, 0, 2),
        (True, 2, 3),
    ]


async def test_what_wakes_it_makes_it_beat_once() -> None:
    election = Election(mock.Mock(), Peer.named("a"), changed=lambda: None)
    election.wake()

    async with asyncio.timeout(10):
        await election._rest(60)

    assert not election._woken.is_set()


async def _follows(election: Election) -> bool:
    return election.term is None


async def _leads(election: Election) -> bool:
    return election.term is not None
