"""A service that begins while the server goes away begins again, and gives up in time."""

import asyncpg
import pytest

from quarterjack.database import borrowed, open_pool, patiently
from tests.conftest import TestDatabase

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

    assert (after_others or "", after_a_loan) == ("", "behind")
