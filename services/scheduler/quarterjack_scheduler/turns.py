"""When a duty of the leader has its turn: the tick loop's looks tell what is to come, a notification says now."""

import asyncio
import math
from datetime import timedelta

from quarterjack.clock import boot, within

UNTOLD = 2.0


class Turn:
    """A pause that ends when something is to be done, or when nothing was told for UNTOLD seconds."""

    def __init__(self) -> None:
        self._due = math.inf
        self._told = -math.inf
        self._changed = asyncio.Event()

    def ring(self) -> None:
        """End the pause at once."""
        self._due = -math.inf
        self._changed.set()

    def tell(self, wait: timedelta | None) -> None:
        """Say what was seen: something to do in `wait`, or nothing so far."""
        self._told = boot()
        if wait is not None:
            self._due = min(self._due, self._told + wait.total_seconds())
        self._changed.set()

    def take(self) -> None:
        """Begin the work: what is heard from now on is a reason for the next turn."""
        self._due = math.inf

    async def wait(self, pause: float | None) -> None:
        """Wait `pause` seconds, None for as long as looks tell that there is nothing; or until something comes up."""
        began = boot()
        if pause is not None:
            self._due = min(self._due, began + pause)
        while (left := self._end(began, told=pause is None) - boot()) > 0:
            self._changed.clear()
            await within(left, self._changed.wait())

    def _end(self, began: float, *, told: bool) -> float:
        return min(self._due, max(self._told, began) + UNTOLD) if told else self._due


def soon(seconds: float | None) -> float | None:
    """Give a short pause as it is; the end of a long one will be told in time."""
    return seconds if seconds is not None and seconds < UNTOLD else None
