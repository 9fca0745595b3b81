"""Who enqueues through a pool while others do shares a statement with them, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import asyncpg
import pytest

import quarterjack
from quarterjack import Enqueued, NewJob, group_commit
from tests.conftest import TestDatabase
from tests.waiting import until

LOCK = "BEGIN; LOCK TABLE oban_jobs IN SHARE ROW EXCLUSIVE MODE"
WAITING = """
SELECT pid, query ~ '^CALL' AS inserts
FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
FULL = """
CREATE FUNCTION be_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.args ->> 'n' = '3' THEN
    RAISE SQLSTATE '54000';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER be_full BEFORE INSERT ON oban_jobs FOR EACH ROW EXECUTE FUNCTION be_full();
"""
Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Hold:
    """Lets no insert through, until the one on its way gives way to the next."""

    first: Session
    second: Session
    looking: Session

    async def inserting(self) -> list[int]:
        """Give the server's processes that would insert."""
        return [row["pid"] for row in await self.looking.fetch(WAITING) if row["inserts"]]

    async def let_two_through(self) -> None:
        """A lock that is asked for is given after the inserts that wait for it, and before those that come."""
        locking = asyncio.create_task(self.second.execute(LOCK))
        await until(lambda: self.waiting(3))
        await self.first.execute("ROLLBACK")
        await locking
        await until(lambda: self.waiting(1))

    async def waiting(self, many: int) -> bool:
        return len(await self.looking.fetch(WAITING)) == many


@asynccontextmanager
async def held(database: TestDatabase) -> AsyncIterator[Hold]:
    """Hold inserts until the block ends; it begins with two on their way."""
    sessions = [await asyncpg.connect(database.url) for _ in range(3)]
    hold = Hold(*sessions)
    await hold.first.execute(LOCK)
    two = [asyncio.create_task(quarterjack.enqueue(database.pool, "held")) for _ in range(2)]
    await until(lambda: hold.waiting(2))
    try:
        yield hold
    finally:
        for session in sessions:
            await session.close()
        await asyncio.gather(*two)


def enqueueing(database: TestDatabase, *numbers: int) -> "list[asyncio.Task[Enqueued]]":
    return [asyncio.create_task(quarterjack.enqueue(database.pool, "w", {"n": n})) for n in numbers]


async def numbers(database: TestDatabase) -> list[int]:
    rows = await database.pool.fetch(
        "SELECT (args -> 'n')::integer AS n FROM oban_jobs WHERE worker = 'w' ORDER BY id"
    )
    return [row["n"] for row in rows]


async def test_who_comes_while_others_insert_shares_a_commit(database: TestDatabase) -> None:
    async with held(database):
        calls = enqueueing(database, *range(8))
        some = asyncio.create_task(
            quarterjack.enqueue_many(
                database.pool, [NewJob(worker="w", args={"n": n}, tags=["t"]) for n in (8, 9)]
            )
        )
        later = asyncio.create_task(
            quarterjack.enqueue(
                database.pool, "w", {"n": 10}, scheduled_at=datetime.now(UTC) + timedelta(days=1)
            )
        )
        await asyncio.sleep(0)

    made = [*(await asyncio.gather(*calls)), *(await some), await later]

    rows = await database.pool.fetch(
        "SELECT id, args, tags, state::text, xmin::text FROM oban_jobs WHERE worker = 'w' ORDER BY id"
    )
    assert [(row["id"], row["args"]) for row in rows] == [
        (each.id, {"n": n}) for n, each in enumerate(made)
    ]
    assert len({row["xmin"] for row in rows}) == 1
    assert [row["tags"] for row in rows] == [[]] * 8 + [["t"]] * 2 + [[]]
    assert [row["state"] for row in rows] == ["available"] * 10 + ["scheduled"]
    assert group_commit.GROUPS == {}


async def test_every_queue_is_rung(database: TestDatabase) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))
    missing = {f"q{number}" for number in range(100)}

    await asyncio.gather(
        *(quarterjack.enqueue(database.pool, "w", queue=queue) for queue in missing)
    )

    async with asyncio.timeout(5):
        while missing:
            missing.discard(json.loads(await heard.get())["queue"])
    await ear.close()


async def test_what_the_server_refuses_fails_for_whose_it_is(database: TestDatabase) -> None:
    await database.pool.execute(
        "ALTER TABLE oban_jobs ADD CONSTRAINT no_three CHECK (args ->> 'n' <> '3')"
    )
    async with held(database):
        calls = enqueueing(database, *range(6))
        await asyncio.sleep(0)

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(result) for result in results] == [
        asyncpg.CheckViolationError if n == 3 else Enqueued for n in range(6)
    ]
    assert await numbers(database) == [0, 1, 2, 4, 5]


async def test_who_is_cancelled_while_it_waits_inserts_nothing(database: TestDatabase) -> None:
    async with held(database):
        calls = enqueueing(database, *range(4))
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.wait([calls[1]])

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(results[1], asyncio.CancelledError)
    assert await numbers(database) == [0, 2, 3]


async def test_who_is_cancelled_with_its_insert_on_the_way_stops_no_other(
    database: TestDatabase,
) -> None:
    async with held(database) as hold:
        calls = enqueueing(database, *range(4))
        await hold.let_two_through()
        calls[1].cancel()
        await asyncio.wait([calls[1]])

    others = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(others[1], asyncio.CancelledError)
    assert all(isinstance(each, Enqueued) for n, each in enumerate(others) if n != 1)
    assert await numbers(database) == [0, 1, 2, 3]


async def test_a_lost_connection_fails_for_all_whose_it_was(database: TestDatabase) -> None:
    """None is tried again: it may have been committed before."""
    async with held(database) as hold:
        calls = enqueueing(database, *range(4))
        await hold.let_two_through()
        for pid in await hold.inserting():
            await hold.looking.execute("SELECT pg_terminate_backend($1)", pid)
        async with asyncio.timeout(10):
            results = await asyncio.gather(*calls, return_exceptions=True)
    after = await quarterjack.enqueue(database.pool, "w", {"n": 9})

    assert not any(isinstance(each, Enqueued) for each in results)
    assert after.id
    assert await numbers(database) == [9]
    assert group_commit.GROUPS == {}


async def test_a_ring_for_which_there_is_no_room_makes_no_job_twice(database: TestDatabase) -> None:
    """The server notices it after the commit. Here there was none, so that a second attempt would show."""
    await database.pool.execute(FULL)
    async with held(database):
        calls = enqueueing(database, *range(4))
        await asyncio.sleep(0)
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) for each in results] == [asyncpg.ProgramLimitExceededError] * 4
    assert await numbers(database) == []


async def test_a_pool_that_cannot_connect_says_so_to_all(database: TestDatabase) -> None:
    async with asyncpg.create_pool(database.url, min_size=0, max_size=2) as pool:
        await database.pool.execute("SELECT 1")
        pool.terminate()
        results = await asyncio.gather(
            *(quarterjack.enqueue(pool, "w") for _ in range(5)), return_exceptions=True
        )

    assert [type(each) for each in results] == [asyncpg.InterfaceError] * 5
    assert group_commit.GROUPS == {}


@pytest.mark.parametrize("many", [1, 2, 300])
async def test_many_calls_of_any_length_get_their_own_ids(
    database: TestDatabase, many: int
) -> None:
    made = await asyncio.gather(
        *(
            quarterjack.enqueue_many(
                database.pool, [NewJob(worker="w", args={"n": call, "m": m}) for m in range(many)]
            )
            for call in range(20)
        )
    )

    rows = await database.pool.fetch("SELECT id, args FROM oban_jobs")
    found = {row["id"]: (row["args"]["n"], row["args"]["m"]) for row in rows}
    assert {each.id: (n, m) for n, call in enumerate(made) for m, each in enumerate(call)} == found
    assert len(found) == 20 * many
