"""What owes an answer for too long is cut, and says what was waited for."""

import asyncio

import pytest

from quarterjack.asking import answered, ask
from quarterjack.database import connect, open_pool
from quarterjack.queries import connections
from tests.conftest import TestDatabase
from tests.proxy import proxied
from tests.waiting import until

LOCK = "LOCK TABLE qj_peers IN ACCESS EXCLUSIVE MODE"
WAITS = "SELECT count(*) = $1 FROM pg_stat_activity WHERE application_name = 'waits' AND wait_event_type = 'Lock'"


async def test_a_pool_that_has_no_connection_left_says_so(database: TestDatabase) -> None:
    async with open_pool(database.address, name="small", size=1) as pool, pool.acquire():
        with pytest.raises(TimeoutError, match=r"no connection to the database within 0\.1 s"):
            await ask(pool, connections.schema, 0.1)


async def test_a_server_that_does_not_take_a_connection_says_so(database: TestDatabase) -> None:
    async with proxied(database.address) as (proxy, address):
        proxy.silent = True
        with pytest.raises(TimeoutError, match=r"no connection to the database within 0\.1 s"):
            await connect(address, name="late", timeout=0.1)


async def test_a_connection_may_be_lost_before_it_is_cut(database: TestDatabase) -> None:
    async def lose() -> None:
        connection.terminate()
        await asyncio.Event().wait()

    async with database.pool.acquire() as connection:
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.1 s"):
            await answered(connection, lose(), 0.1)


@pytest.mark.parametrize(
    ("patience", "end"), [(600.0, asyncio.CancelledError), (0.5, TimeoutError)]
)
async def test_a_session_that_waits_for_a_lock_ends_with_its_client_and_is_not_asked_to_cancel(
    database: TestDatabase, patience: float, end: type[BaseException]
) -> None:
    async with (
        proxied(database.address) as (proxy, address),
        database.pool.acquire() as person,
        person.transaction(),
    ):
        await person.execute(LOCK)
        connection = await connect(address, name="waits")
        waiting = asyncio.create_task(
            answered(connection, connection.fetch("SELECT FROM qj_peers"), patience)
        )
        await until(lambda: database.pool.fetchval(WAITS, 1))

        if end is asyncio.CancelledError:
            waiting.cancel()
        with pytest.raises(end):
            await waiting

        await until(lambda: database.pool.fetchval(WAITS, 0), within=20.0)
        assert proxy.accepted == 1


async def test_a_cancelled_transaction_waits_for_no_rollback(database: TestDatabase) -> None:
    begun = asyncio.Event()
    async with proxied(database.address) as (proxy, address):
        connection = await connect(address, name="silent")

        async def transact() -> None:
            async with connection.transaction():
                proxy.silent = True
                begun.set()
                await connection.execute("SELECT")

        waiting = asyncio.create_task(answered(connection, transact(), 600.0))
        await begun.wait()
        waiting.cancel()
        _, late = await asyncio.wait({waiting}, timeout=5.0)

        assert not late
        assert waiting.cancelled()
        assert connection.is_closed()
