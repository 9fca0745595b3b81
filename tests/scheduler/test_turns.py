"""The turn of a duty: rung, told of, or left to itself."""

import asyncio
import math
from datetime import timedelta

import pytest

from quarterjack_scheduler.turns import UNTOLD, Turn, soon

MOMENT, HOUR = timedelta(0), timedelta(hours=1)


async def waits(turn: Turn, pause: float | None) -> bool:
    """Say whether the turn lets its duty rest."""
    waiting = asyncio.create_task(turn.wait(pause))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rests = not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return rests


@pytest.mark.parametrize("pause", [None, 3600.0])
async def test_a_ring_or_something_due_ends_any_pause(pause: float | None) -> None:
    for end in (Turn.ring, lambda turn: turn.tell(MOMENT)):
        turn = Turn()
        waiting = asyncio.create_task(turn.wait(pause))
        await asyncio.sleep(0)
        end(turn)

        async with asyncio.timeout(5):
            await waiting


async def test_what_comes_while_the_duty_works_is_not_lost() -> None:
    turn = Turn()
    turn.take()
    turn.ring()

    assert not await waits(turn, 3600.0)
    turn.take()
    assert await waits(turn, 3600.0)


async def test_nothing_told_and_what_is_far_leave_it_resting() -> None:
    turn = Turn()
    turn.tell(None)
    turn.tell(HOUR)

    assert await waits(turn, None)


async def test_the_first_of_what_was_told_ends_the_pause() -> None:
    turn = Turn()
    turn.tell(MOMENT)
    turn.tell(HOUR)

    assert not await waits(turn, None)


async def test_a_look_puts_off_that_it_goes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("quarterjack_scheduler.turns.boot", lambda: now[0])
    turn = Turn()
    waiting = asyncio.create_task(turn.wait(None))
    await asyncio.sleep(0)

    now[0] = UNTOLD - 0.001
    turn.tell(None)
    now[0] = UNTOLD + 0.001
    for _ in range(5):
        await asyncio.sleep(0)

    assert not waiting.done()
    waiting.cancel()


async def test_without_a_look_it_goes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterjack_scheduler.turns.UNTOLD", 0.0)

    assert not await waits(Turn(), None)


@pytest.mark.parametrize(("seconds", "kept"), [(None, None), (0.0, 0.0), (math.inf, None)])
def test_only_a_short_pause_is_kept(seconds: float | None, kept: float | None) -> None:
    assert soon(seconds) == kept
