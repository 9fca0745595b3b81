"""The loop of a duty that fails."""

import asyncio
from typing import Any

import asyncpg
import pytest

from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.turns import Turn
from quarterjack_scheduler.upkeep import repeat
from tests.conftest import TestDatabase


async def test_a_duty_that_fails_again_and_again_is_tried_ever_more_rarely(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float | None] = []
    well_at = 9

    async def work(_: Any) -> float:
        if len(pauses) == well_at:
            return 1.0
        raise asyncpg.InsufficientPrivilegeError("not yours")

    async def wait(_: Turn, pause: float | None) -> None:
        pauses.append(pause)
        if len(pauses) == well_at + 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(Turn, "wait", wait)
    monkeypatch.setattr(Election, "term", 1)
    election = Election(database.address, Peer.named("n"), changed=lambda: None)
    with pytest.raises(asyncio.CancelledError):
        await repeat(database.pool, election, work, "do it")

    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 1.0, 0.2]
    assert [record.getMessage() for record in caplog.records] == [
        "could not do it: not yours; trying again"
    ] * 2
