"""A session of a claimer's: one connection, until it is lost."""

import asyncio

import pytest

from quarterjack.clock import within
from quarterjack.database import LOST, Connection, open_pool
from quarterjack_worker.session import Session
from tests.conftest import TestDatabase
from tests.proxy import proxied

pytestmark = pytest.mark.newest_postgres


async def backend(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def test_a_session_keeps_its_connection(database: TestDatabase) -> None:
    session = Session(database.pool)

    first = await session.ask(backend, 5.0)
    async with database.pool.acquire() as other:
        assert await backend(other) != first
    assert await session.ask(backend, 5.0) == first


async def test_one_that_was_lost_meanwhile_is_no_failure(database: TestDatabase) -> None:
    session = Session(database.pool)
    lost = asyncio.Event()

    async def watched(connection: Connection) -> int:
        connection.add_termination_listener(lambda _: lost.set())
        return await backend(connection)

    first = await session.ask(watched, 5.0)
    await database.pool.execute("SELECT pg_terminate_backend($1)", first)
    await within(10.0, lost.wait())

    assert await session.ask(backend, 5.0) != first


async def test_one_that_owes_an_answer_is_cut_and_another_asks(database: TestDatabase) -> None:
    async with (
        proxied(database.address) as (proxy, address),
        open_pool(address, name="session", size=1) as pool,
    ):
        session = Session(pool)
        await session.ask(backend, 5.0)
        proxy.silent = True
        with pytest.raises(LOST):
            await session.ask(backend, 0.1)
        proxy.silent = False

        assert await session.ask(backend, 5.0)
