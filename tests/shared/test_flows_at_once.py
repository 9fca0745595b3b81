"""Jobs that wait for others, while several programs are at it at the same time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import quarterjack
from quarterjack import NewJob, enqueue_batch, enqueue_many
from quarterjack.database import Connection
from quarterjack.queries import settling
from tests.conftest import TestDatabase
from tests.flows import end, settle, states
from tests.waiting import until

BLOCKED = """
SELECT count(*)
FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
LOOKS = """
SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'qj_edges_child'
"""


async def new_jobs(database: TestDatabase, number: int = 1) -> list[int]:
    made = await enqueue_many(database.pool, [NewJob(worker="w")] * number)
    return [each.id or 0 for each in made]


async def blocked(database: TestDatabase, number: int) -> None:
    """Wait until so many wait for a lock, at least: who gives one up leaves its session waiting."""

    async def waiting() -> bool:
        return bool(await database.pool.fetchval(BLOCKED) >= number)

    await until(waiting)


@asynccontextmanager
async def held(database: TestDatabase, statement: str, *args: object) -> AsyncIterator[Connection]:
    """Hold what a statement locks."""
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(statement, *args)
        yield connection


@pytest.mark.parametrize("followed", [True, False])
async def test_an_end_waits_for_no_transaction_that_follows_it(
    database: TestDatabase, followed: bool
) -> None:
    """Else one that somebody has forgotten would hold up all that a worker has to write."""
    [parent] = await new_jobs(database)
    if followed:
        await quarterjack.enqueue(database.pool, "w", after=[parent])
        await settle(database.pool)
    async with database.pool.acquire() as connection, connection.transaction():
        child = await quarterjack.enqueue(connection, "w", after=[parent])
        async with asyncio.timeout(5):
            await end(database.pool, parent)
        await settle(database.pool)
    await settle(database.pool)

    assert await states(database.pool, child.id) == ["available"]


async def test_an_end_that_is_being_written_is_looked_for_again(database: TestDatabase) -> None:
    [parent] = await new_jobs(database)
    child = await quarterjack.enqueue(database.pool, "w", after=[parent])
    async with held(database, "UPDATE oban_jobs SET state = 'completed' WHERE id = $1", parent):
        during = await settling.settle(database.pool, lines=10, edges=10)
    await settle(database.pool)

    assert (during.lines, during.left) == (1, 1)
    assert await states(database.pool, child.id) == ["available"]


async def test_an_end_after_the_look_and_before_the_mark_is_not_missed(
    database: TestDatabase,
) -> None:
    """The statement has its snapshot, in which the parent is alive, and waits for its turn."""
    [parent] = await new_jobs(database)
    child = await quarterjack.enqueue(database.pool, "w", after=[parent])
    async with held(database, "SELECT FROM qj_settling FOR UPDATE"):
        looking = asyncio.create_task(settling.settle(database.pool, lines=10, edges=10))
        await blocked(database, 1)
        await end(database.pool, parent)
    late = await looking
    await settle(database.pool)

    assert (late.mine, late.left) == (True, 1)
    assert await states(database.pool, child.id) == ["available"]


async def test_no_child_is_left_behind_whoever_is_first(
    database: TestDatabase, pytestconfig: pytest.Config
) -> None:
    dice = random.Random(pytestconfig.option.seed)
    children: list[int] = []

    async def follow(parents: list[int]) -> None:
        made = await quarterjack.enqueue(database.pool, "child", after=parents)
        children.append(made.id or 0)

    async def settle_on() -> None:
        while True:
            await settle(database.pool, size=3)

    settlers = [asyncio.create_task(settle_on()) for _ in range(2)]
    for _ in range(60):
        parents = await new_jobs(database, 3)
        at_once = [follow(parents[:2]), follow(parents[1:]), follow(parents)]
        at_once += [end(database.pool, id) for id in parents]
        dice.shuffle(at_once)
        await asyncio.gather(*at_once)
    for settler in settlers:
        settler.cancel()
    await asyncio.wait(settlers)
    await settle(database.pool)

    assert set(await states(database.pool, *children)) == {"available"}


async def test_of_two_leaders_at_once_one_does_nothing(database: TestDatabase) -> None:
    """Each would see the edge open that the other closes, and the child would wait for ever."""
    first, second = await new_jobs(database, 2)
    child = await quarterjack.enqueue(database.pool, "w", after=[first, second])
    await settle(database.pool)
    await end(database.pool, first)
    async with held(database, "SELECT FROM qj_edges WHERE parent = $1 FOR UPDATE", first):
        one = asyncio.create_task(settling.settle(database.pool, lines=10, edges=10))
        await blocked(database, 1)
        await end(database.pool, second)
        two = asyncio.create_task(settling.settle(database.pool, lines=10, edges=10))
        await blocked(database, 2)

    assert [(await each).mine for each in (one, two)] == [True, False]
    await settle(database.pool)
    assert await states(database.pool, child.id) == ["available"]


async def test_a_child_that_somebody_holds_keeps_nobody_else_waiting(
    database: TestDatabase,
) -> None:
    [parent, other] = await new_jobs(database, 2)
    children = [
        (await quarterjack.enqueue(database.pool, "w", after=[id])).id
        for id in (parent, parent, other)
    ]
    await end(database.pool, parent, other)
    async with held(database, "SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", children[0]):
        await settle(database.pool)
        during = await states(database.pool, *children)
    await settle(database.pool)

    assert during == ["suspended", "available", "available"]
    assert await states(database.pool, *children) == ["available"] * 3
    assert await database.pool.fetchval("SELECT count(*) FROM qj_ended") == 0


async def test_a_line_whose_child_is_held_goes_behind_all_others(database: TestDatabase) -> None:
    """As many as are read at once would otherwise be all that is ever read."""
    parents = await new_jobs(database, 2)
    children = [
        (await quarterjack.enqueue(database.pool, "w", after=[parent])).id for parent in parents
    ]
    await end(database.pool, *parents)
    async with held(database, "SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", children[0]):
        for _ in parents:
            await settling.settle(database.pool, lines=1, edges=1)

    assert await states(database.pool, *children) == ["suspended", "available"]


async def test_the_queue_of_a_parent_that_was_locked_for_a_moment_is_rung(
    database: TestDatabase,
) -> None:
    [parent, running] = await new_jobs(database, 2)
    await end(database.pool, running, state="executing")
    await quarterjack.enqueue(database.pool, "w", after=[parent, running])

    looked = await settling.settle(database.pool, lines=10, edges=10)
    again = await settling.settle(database.pool, lines=10, edges=10)

    assert (looked.lines, looked.left, looked.queues) == (2, 0, ["default"])
    assert (again.lines, again.queues) == (0, [])
    marks = await database.pool.fetch("SELECT meta FROM oban_jobs WHERE id <= $1", running)
    assert [mark["meta"] for mark in marks] == [{"qj_followed": True}] * 2


@pytest.mark.parametrize(
    ("number", "at_once", "statements", "analyzed"),
    [(10_000, 10_000, 12, True), (800, 1, 800, True), (800, 1, 800, False)],
)
async def test_a_callback_after_many_looks_at_each_of_them_a_few_times(
    database: TestDatabase, number: int, at_once: int, statements: int, analyzed: bool
) -> None:
    """Not at all of them each time: that would be 5 million rows of the 10 000, and 320 000 of the 800."""
    batch = await enqueue_batch(
        database.pool, [NewJob(worker="part")] * number, NewJob(worker="whole")
    )
    if analyzed:
        await database.pool.execute("ANALYZE qj_edges, oban_jobs")
    before = await _looks(database)

    sent = 0
    for place in range(0, number, at_once):
        await end(database.pool, *batch.ids[place : place + at_once])
        sent += await settle(database.pool) - 1

    assert await states(database.pool, batch.callback) == ["available"]
    assert sent <= statements
    assert number < await _looks(database) - before < 5 * number


async def _looks(database: TestDatabase) -> int:
    """Give how many entries of the index by child were read so far, by all sessions."""
    connections = [await database.pool.acquire() for _ in range(database.pool.get_size())]
    for connection in connections:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT 1")
    for connection in connections:
        await database.pool.release(connection)
    looks: int = await database.pool.fetchval(LOOKS)
    return looks
