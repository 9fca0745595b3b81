"""Ask the database, and cut a connection that owes its answer for too long."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from types import coroutine
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from quarterjack.database import Answer, Connection, Pool


async def ask(
    pool: Pool, question: Callable[[Connection], Coroutine[Any, Any, Answer]], patience: float
) -> Answer:
    """Ask on a connection of the pool, as `answered` does; a server that falls silent holds nobody up."""
    async with taken(pool, patience) as connection:
        return await answered(connection, question(connection), patience)


@asynccontextmanager
async def taken(pool: Pool, patience: float) -> AsyncIterator[Connection]:
    """Take a connection until the block ends; TimeoutError if there is none within so many seconds."""
    connection = await take(pool, patience)
    try:
        yield connection
    finally:
        await pool.release(connection)


async def take(pool: Pool, patience: float) -> "PoolConnectionProxy[asyncpg.Record]":
    """Take a connection; TimeoutError if there is none within so many seconds."""
    try:
        return await pool.acquire(timeout=patience)
    except TimeoutError as error:
        raise TimeoutError(f"no connection to the database within {patience:g} s") from error


async def answered(
    connection: Connection, question: Coroutine[Any, Any, Answer], patience: float
) -> Answer:
    """Wait for the answer; a connection that owes it for too long is cut, never asked to cancel.

    A cancel request would make a commit that waits for a synchronous standby visible but unreplicated.
    """
    try:
        async with asyncio.timeout(patience) as limit:
            return await _cut_before_cancelled(connection, question)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"the database did not answer within {patience:g} s") from error


@coroutine
def _cut_before_cancelled(
    connection: Connection, question: Coroutine[Any, Any, Answer]
) -> Generator[Any, None, Answer]:
    """Go through a question's steps, and cut the connection before it learns that it is cancelled.

    So it sends nothing more, no ROLLBACK either; and asyncpg's cancel request is a task which a cut takes back.
    """
    heard: BaseException | None = None
    while True:
        try:
            awaited = question.throw(heard) if heard else question.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except Exception:
            if isinstance(heard, asyncio.CancelledError):
                raise heard from None  # and not that there is no connection for its ROLLBACK
            raise
        try:
            heard = yield awaited
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                _cut(connection)
            heard = error


def _cut(connection: Connection) -> None:
    """Cut a connection, unless its pool has taken it back already, because it was lost at the same time."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
