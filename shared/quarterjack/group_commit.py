"""Who enqueues through a pool while others do shares their statement, their commit and their ring.

Each commit waits for the server's disk, and each that notifies for a lock of the whole server: many clients are in each
other's way. Invariant: the jobs of one call are inserted all or none, and once. What the server refuses is tried again
call by call, so that it fails for whose it is; nothing else is tried again, for it may be committed.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import asyncpg

from quarterjack.database import REFUSED, Pool, borrowed
from quarterjack.inserting import insert_some_and_ring
from quarterjack.model import Enqueued, Row

AT_ONCE = 2
"""So many statements of a pool are on their way, at least two: with more, fewer calls share one."""
MOST = 500
"""A statement takes no further call once it has so many rows."""


@dataclass(slots=True, eq=False)
class _Call:
    rows: Sequence[Row]
    done: asyncio.Future[list[Enqueued]]
    alone: bool = False


class _Group:
    """Who enqueues through one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._inserting = 0
        self._waiting: deque[_Call] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def insert(self, rows: Sequence[Row]) -> list[Enqueued]:
        """Insert at once if nobody else does; else with the next statement, which the calls that wait share."""
        if self._inserting == 0:
            self._inserting += 1
            try:
                async with borrowed(self._pool) as connection:
                    return await insert_some_and_ring(connection, rows)
            finally:
                self._end()
        call = _Call(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._inserting < AT_ONCE:
            self._inserting += 1
            task = asyncio.create_task(self._insert_waiting())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await call.done

    async def _insert_waiting(self) -> None:
        batch: list[_Call] = []
        try:
            while self._waiting:
                try:
                    async with borrowed(self._pool) as connection:
                        if batch := self._take():
                            rows = [row for call in batch for row in call.rows]
                            _tell(batch, await insert_some_and_ring(connection, rows))
                except Exception as error:
                    self._fail(batch or self._take(), error)
                batch = []
        finally:
            for call in (*batch, *(self._waiting if self._inserting == 1 else ())):
                call.done.cancel()  # the loop ends
            self._end()

    def _take(self) -> list[_Call]:
        """Give the calls of the next statement: one that failed in company goes alone."""
        batch: list[_Call] = []
        count = 0
        while self._waiting and count < MOST and not (batch and self._waiting[0].alone):
            call = self._waiting.popleft()
            if not call.done.cancelled():
                batch.append(call)
                count += MOST if call.alone else len(call.rows)
        return batch

    def _fail(self, batch: list[_Call], error: Exception) -> None:
        committed = isinstance(error, asyncpg.ProgramLimitExceededError)  # if it is for the ring
        if isinstance(error, REFUSED) and not committed and len(batch) > 1:
            for call in batch:
                call.alone = True
            self._waiting.extendleft(reversed(batch))
            return
        for call in batch:
            if not call.done.done():
                call.done.set_exception(error)

    def _end(self) -> None:
        self._inserting -= 1
        if self._inserting == 0 and not self._waiting:
            GROUPS.pop(id(self._pool), None)


GROUPS: dict[int, _Group] = {}
"""By the id of the pool, while somebody inserts."""


async def insert_together(pool: Pool, rows: Sequence[Row]) -> list[Enqueued]:
    """Insert plain rows, and ring for them, with what else is enqueued through the pool meanwhile."""
    return await GROUPS.setdefault(id(pool), _Group(pool)).insert(rows)


def _tell(batch: Sequence[_Call], results: Sequence[Enqueued]) -> None:
    left = iter(results)
    for call in batch:
        mine = list(islice(left, len(call.rows)))
        if not call.done.done():
            call.done.set_result(mine)
