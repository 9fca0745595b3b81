"""Tell open pages that something changed; each then loads again what it shows.

Only a number goes out, never data, so there is one way of rendering and one of permitting. Notifications
make it quick, and a look at the server's statistics once a second finds what nobody rings for.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quarterjack import channels
from quarterjack.database import LOST, Address, Pool
from quarterjack.listener import Listener
from quarterjack.queries import cluster

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
PER_SESSION = 8
IN_ALL = 200


class Hub:
    """Counts changes, and wakes the streams that wait for the next one."""

    def __init__(self) -> None:
        self.version = 0
        self._changed = asyncio.Event()
        self._streams: Counter[bytes] = Counter()

    @contextmanager
    def stream(self, session: bytes) -> Iterator[bool]:
        """Hold a place; False when this session, or everyone together, has too many open."""
        allowed = self._streams[session] < PER_SESSION and self._streams.total() < IN_ALL
        self._streams[session] += 1
        try:
            yield allowed
        finally:
            self._streams[session] -= 1
            self._streams += Counter()

    async def next_after(self, seen: int, *, within: float) -> int:
        """Wait for a version later than `seen`, for at most so many seconds; give the version by then."""
        try:
            async with asyncio.timeout(within):
                while self.version == seen:
                    await self._changed.wait()
        except TimeoutError:
            return self.version
        return self.version

    def ring(self) -> None:
        """Say that something changed."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self, address: Address, pool: Pool, who: str) -> None:
        """Listen and look until cancelled."""

        def heard(_: str, __: dict[str, Any]) -> None:
            self.ring()

        names = (channels.SCHEDULES, channels.SCHEDULER, channels.INSERT)
        listener = Listener(address, pool, names, heard=heard, gap=self.ring, who=who)
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
