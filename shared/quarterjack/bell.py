"""Ring queues after a commit, together with whoever else rings through the same pool.

Every notifying commit takes one lock of the whole server, so a ring for each insert would make inserts take turns.
Invariant: for every call a ring begins later than the call. One caller rings, one waits for its turn and then rings for
all that came meanwhile; those do not wait. If its ring fails, they have the poll of the workers, as it has.
"""

import asyncio
from collections.abc import Set

from quarterjack.database import Connection, Pool
from quarterjack.queries import jobs

PAUSE = 0.001
"""For so many seconds one waits who finds another ringing, so as to ring for more of them."""


class _Bell:
    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.awaited = False
        self.wanted: set[str] = set()


BELLS: dict[int, _Bell] = {}
"""By the id of the pool, while somebody rings."""


async def ring(pool: Pool, connection: Connection, queues: Set[str]) -> None:
    """Wake whoever works on these queues; `connection` is one of the pool's, and in no transaction."""
    bell = BELLS.setdefault(id(pool), _Bell())
    bell.wanted |= queues
    if bell.awaited:
        return
    bell.awaited = True
    try:
        if bell.turn.locked():
            await asyncio.sleep(PAUSE)
        await bell.turn.acquire()
    finally:
        bell.awaited = False
    try:
        wanted, bell.wanted = bell.wanted, set()
        await jobs.ring(connection, sorted(wanted))
    finally:
        bell.turn.release()
        if not bell.awaited:
            BELLS.pop(id(pool), None)
