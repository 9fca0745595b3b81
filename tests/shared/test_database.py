"""A service that begins while the server goes away begins again, and gives up in time."""

import asyncio
from dataclasses import replace
from functools import partial

import asyncpg
import pytest

from quarterjack.database import UNREACHABLE, borrowed, connect, open_pool, patiently
from quarterjack.hosts import each_host
from quarterjack.queries import connections
from tests.conftest import TestDatabase
from tests.waiting import until

READ_ONLY = """
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
END $$
"""
GONE = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1)"
CUT = "SELECT pg_terminate_backend(pg_backend_pid())"


async def test_a_session_lost_in_the_middle_of_the_beginning_is_no_end(
    database: TestDatabase,
) -> None:
    steps = [CUT, CUT, "SELECT 'begun'"]

    begun = await patiently(lambda: database.pool.fetchval(steps.pop(0)), 10.0)

    assert begun == "begun"
    assert steps == []


async def test_patience_ends(database: TestDatabase) -> None:
    with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
        await patiently(lambda: database.pool.fetchval(CUT), 0.3)


async def test_what_waiting_does_not_mend_is_said_at_once(database: TestDatabase) -> None:
    statements = ["SELECT 1/0"]

    with pytest.raises(asyncpg.DivisionByZeroError):
        await patiently(lambda: database.pool.fetchval(statements.pop()), 10.0)


async def test_a_connection_is_reset_after_others_and_not_after_a_loan(
    database: TestDatabase,
) -> None:
    leave, look = (
        "SET quarterjack.mark = 'behind'",
        "SELECT current_setting('quarterjack.mark', true)",
    )
    async with open_pool(database.address, name="reset", size=1) as pool:
        await pool.execute(leave)
        after_others = await pool.fetchval(look)
        async with borrowed(pool) as connection:
            await connection.execute(leave)
        after_a_loan = await pool.fetchval(look)

        interval = await pool.fetchval("SHOW client_connection_check_interval")
        compiled = await pool.fetchval("SHOW jit")

    assert (after_others or "", after_a_loan) == ("", "behind")
    assert (interval, compiled) == ("2s", "off")


@pytest.mark.parametrize("reset", [True, False])
async def test_a_server_compiles_no_statement_of_ours(database: TestDatabase, reset: bool) -> None:
    """Most have it switched on; a pool that is not reset keeps what its connections began with."""
    alone = await connect(database.address, name="alone")
    async with open_pool(database.address, name="pool", size=1, reset=reset) as pool:
        for _ in range(2):
            assert await pool.fetchval("SHOW jit") == "off"

    assert await alone.fetchval("SHOW jit") == "off"
    await alone.close()


async def test_a_connection_that_is_given_up_while_it_is_made_is_closed(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def never_ends(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(connections, "end_with_client", never_ends)
    making = asyncio.create_task(connect(database.address, name="given up"))
    await begun.wait()
    making.cancel()

    await until(partial(database.pool.fetchval, GONE, "given up"))


async def test_a_server_that_takes_no_writes_is_not_there_yet(database: TestDatabase) -> None:
    """An address leads to a standby until a failover is done; what connected to that must not stay there."""
    await database.pool.execute(READ_ONLY)
    asked = replace(database.address, direct_url=f"{database.url}?target_session_attrs=any")

    with pytest.raises(UNREACHABLE):
        await connect(database.address, name="tests")
    with pytest.raises(UNREACHABLE):
        async with open_pool(database.address, name="tests"):
            pass

    connection = await connect(asked, name="tests")
    connection.terminate()


async def test_a_pool_that_is_taken_for_a_connection_stays_open(database: TestDatabase) -> None:
    with pytest.raises(TypeError, match=r"write `async with pool\.acquire\(\) as connection`"):
        async with database.pool:
            pass
    with pytest.raises(TypeError, match="it is closed by who opened it"):
        await database.pool.close()

    assert await database.pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("place", ["first", "last"])
async def test_a_host_that_gives_no_answer_hides_no_other(
    database: TestDatabase, place: str
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    mute = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    before, at, after = database.url.rpartition("@")
    both = [after.partition("/")[0], mute]
    if place == "first":
        both.reverse()
    url = f"{before}{at}{','.join(both)}/{after.partition('/')[2]}"
    address = replace(database.address, url=url, direct_url=url)

    async with silent, open_pool(address, name="hosts") as pool:
        connection = await connect(address, name="hosts", timeout=2.0)
        await connection.close()
        assert await pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        (
            "postgresql://u:p@a:1,[::1]:2/n?x=y",
            ["postgresql://u:p@a:1/n?x=y", "postgresql://u:p@[::1]:2/n?x=y"],
        ),
        ("postgres://a,b", ["postgres://a", "postgres://b"]),
        ("postgresql:///n?host=a,b", ["postgresql:///n?host=a,b"]),
        ("nonsense", ["nonsense"]),
    ],
)
def test_an_address_has_its_hosts(url: str, urls: list[str]) -> None:
    assert each_host(url) == urls
