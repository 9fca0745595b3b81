"""A connection of a pool's that is kept from one question to the next."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from quarterjack.asking import answered, take
from quarterjack.database import Connection, Pool

Answer = TypeVar("Answer")


class Session:
    """Asks one question at a time, as `asking.ask` does, but goes to the pool only at first and after a failure."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept: PoolConnectionProxy[asyncpg.Record] | None = None

    async def ask(
        self, question: Callable[[Connection], Coroutine[Any, Any, Answer]], patience: float
    ) -> Answer:
        """Give the answer. Any of `LOST` if there is none within so many seconds."""
        if self._kept is None or _gone(self._kept):
            self._kept = await take(self._pool, patience)
        connection = self._kept
        try:
            return await answered(connection, question(connection), patience)
        except BaseException:
            self._kept = None
            await self._pool.release(connection)
            raise


def _gone(connection: Connection) -> bool:
    """Say whether a connection was lost; its pool may have taken it back already."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True
