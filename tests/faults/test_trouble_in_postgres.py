"""A Postgres that is full, refuses, or is two (F12, F24, F26)."""

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import asyncpg
import pytest

from quarterjack_local.postgres import Server
from tests.conftest import TestDatabase
from tests.faults.arena import arena
from tests.faults.pair import host_and_port, pair

pytestmark = [pytest.mark.newest_postgres, pytest.mark.nightly, pytest.mark.timeout(300)]
FAILING = """
CREATE TABLE fault_flag (chance float, code text);
CREATE FUNCTION fault_raise() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE flag fault_flag;
BEGIN
  SELECT * INTO flag FROM fault_flag;
  IF random() < flag.chance THEN
    RAISE EXCEPTION 'injected' USING ERRCODE = flag.code;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER fault_raise AFTER INSERT ON qj_ticks FOR EACH STATEMENT EXECUTE FUNCTION fault_raise();
"""
CODES = {
    "deadlock": "40P01",
    "serialization": "40001",
    "canceled": "57014",
    "lock timeout": "55P03",
}
DECIDED = "SELECT count(*) FROM qj_ticks WHERE term IS NOT NULL"


async def test_f12_two_primaries_leave_one_history(
    server: Server, tmp_path: Path, seed: int
) -> None:
    """One replica stays with the old primary, the others are led to the new one; only that is exact."""
    dice = random.Random(seed)
    async with (
        pair(tmp_path, server.bin_dir, dice, synchronous=False) as (two, made),
        arena(made, tmp_path, seed=seed, replicas=3) as field,
    ):
        stays = await field.leader()
        async with field.trouble("two primaries", stays=stays.name):
            stays.proxy.target = host_and_port(two.primary)
            await stays.proxy.cut()
            two.replication.silent = True
            await field.pass_time(0.5)
            await two.promote()
            await two.service.retarget(*host_and_port(two.standby))
            await field.decides()
            await field.pass_time(10.0)
            assert await _decided(two.primary) > 0
            await asyncio.to_thread(two.primary.stop, "immediate")
            await stays.proxy.retarget(*host_and_port(two.standby))
        await field.decides()
        await field.verify()


async def test_f24_no_slot_is_left(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """The leader goes on with the connections that it has, and a follower can take over with its own."""
    database = own_server_database
    async with arena(database, tmp_path, seed=seed) as field, AsyncExitStack() as idlers:
        with suppress(asyncpg.TooManyConnectionsError):
            for _ in range(1_000):
                idle = await asyncpg.connect(database.url)
                idlers.push_async_callback(idle.close)
            raise AssertionError("the server takes everybody")
        field.diary.note("full")
        await field.pass_time(5.0)
        async with field.trouble("kill in a full server"):
            await field.kill(await field.leader())
            await field.decides()
        async with field.trouble("emptied"):
            await idlers.aclose()
        await field.verify()


@pytest.mark.parametrize("what", CODES)
async def test_f26_requests_are_refused(
    database: TestDatabase, tmp_path: Path, seed: int, what: str
) -> None:
    await database.pool.execute(FAILING)
    async with arena(database, tmp_path, seed=seed) as field:
        async with field.trouble("refusals", code=CODES[what]):
            await database.pool.execute("INSERT INTO fault_flag VALUES (0.5, $1)", CODES[what])
            await field.pass_time(8.0)
            await database.pool.execute("DELETE FROM fault_flag")
        await field.decides()
        await field.verify()
        assert any("injected" in line for line in field.said())


async def _decided(server: Server) -> int:
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        return int(await connection.fetchval(DECIDED))
    finally:
        await connection.close()
