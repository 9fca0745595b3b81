"""What the election survives, and that nothing goes on without it."""

import asyncio
from typing import Any

import asyncpg
import pytest

from quarterjack.database import open_pool
from quarterjack.queries import lease
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler.election import Election, ElectionEnded, Peer
from quarterjack_scheduler.tick_loop import TickLoop
from tests.conftest import TestDatabase
from tests.scheduler.replica import replica
from tests.waiting import until

BEAT = lease.beat


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


async def _leads(election: Election) -> bool:
    return election.term is not None
