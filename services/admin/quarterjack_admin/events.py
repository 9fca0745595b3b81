"""Tell open pages that something changed; each then loads again what it shows.

Only a number goes out, never data, so there is one way of rendering and one of permitting. Notifications
make it quick, and a look at the server's statistics once a second finds what nobody rings for.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeAlias

from quarterjack import channels
from quarterjack.database import LOST, Address, Pool
from quarterjack.listener import Listener
from quarterjack.queries import cluster

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
PER_ACCOUNT = 20
IN_ALL = 200

Alive: TypeAlias = Callable[[], bool]


class Hub:
    """Counts changes, and wakes the streams that wait for the next one."""

    def __init__(self) -> None:
        self.version = 0
        self.closing = False
        self._changed = asyncio.Event()
        self._streams: dict[int, list[Alive]] = {}

    @contextmanager
    def stream(self, account: int, alive: Alive) -> Iterator[bool]:
        """Hold a place; False when this account, or everyone together, has too many open.

        That a page is gone shows at the next write, so only those count that are `alive`: who goes from page to page
        leaves many within a heartbeat.
        """
        mine = self._streams.setdefault(account, [])
        allowed = _open(mine) < PER_ACCOUNT and sum(map(_open, self._streams.values())) < IN_ALL
        mine.append(alive)
        try:
            yield allowed
        finally:
            mine.remove(alive)
            if not mine:
                del self._streams[account]

    async def next_after(self, seen: int, *, within: float) -> int:
        """Give the version once it is later than `seen`, after so many seconds, or when all is closing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.version == seen and not self.closing:
                    await self._changed.wait()
        return self.version

    def ring(self) -> None:
        """Say that something changed."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def close(self, _: object) -> None:
        """Have every stream end, so that the process can: its server waits for them."""
        self.closing = True
        self.ring()

    async def run(self, address: Address, pool: Pool, who: str) -> None:
        """Listen and look until cancelled."""
        names = (channels.SCHEDULES, channels.SCHEDULER, channels.INSERT)
        listener = Listener(
            address, pool, names, heard=lambda *_: self.ring(), gap=self.ring, who=who
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(listener.run())
            group.create_task(self._look(pool))

    async def _look(self, pool: Pool) -> None:
        seen = -1
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if not self._streams:
                continue
            try:
                found = await cluster.activity(pool)
            except LOST as error:
                log.debug("could not look for changes: %s", error)
                continue
            if found != seen:
                seen = found
                self.ring()


def _open(streams: Sequence[Alive]) -> int:
    return sum(alive() for alive in streams)
