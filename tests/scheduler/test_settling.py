"""The leader's duty to jobs that wait: batches, and what no database takes."""

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

import quarterjack
from quarterjack import NewJob, enqueue_batch, enqueue_many
from quarterjack.queries import settling as queries
from quarterjack.queries.settling import Settled
from quarterjack_scheduler import settling
from quarterjack_scheduler.retention import from_environment
from quarterjack_scheduler.settling import MOST, Settler
from quarterjack_scheduler.upkeep import Pruner
from tests.conftest import TestDatabase
from tests.flows import end, enqueue, states

REFUSE = "ALTER TABLE oban_jobs ADD CONSTRAINT no CHECK (worker <> 'bad' OR state <> 'available') NOT VALID"


async def settle_all(database: TestDatabase, settler: Settler) -> int:
    """Settle as the leader does, until it would wait; how often."""
    turns = 1
    async with database.pool.acquire() as connection:
        while await settler.settle(connection) is not None:
            turns += 1
    return turns


async def test_a_child_that_the_database_refuses_stops_no_other(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    [parent, other] = await enqueue_many(database.pool, [NewJob(worker="w")] * 2)
    children = [
        (await quarterjack.enqueue(database.pool, worker, after=[id])).id
        for worker, id in [("w", parent.id or 0), ("bad", parent.id or 0), ("w", other.id or 0)]
        for _ in range(5)
    ]
    await database.pool.execute(REFUSE)
    await end(database.pool, parent.id or 0, other.id or 0)

    settler = Settler()
    await settle_all(database, settler)

    assert await states(database.pool, *children) == (
        ["available"] * 5 + ["suspended"] * 5 + ["available"] * 5
    )
    assert (
        settler._size > 1
    )  # it grows again, else one such child would slow all others down for ever
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert [f"job {id} cannot be freed" for id in children[5:10]] == [
        text.partition(":")[0] for text in said
    ]
    assert await database.pool.fetchval("SELECT count(*) FROM qj_ended") == 0


async def test_many_children_are_freed_in_bounded_batches(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "MOST", 10)
    [parent] = await enqueue_many(database.pool, [NewJob(worker="w")])
    new = [NewJob(worker="w", after=[parent.id or 0])] * 35
    children = [each.id for each in await enqueue_many(database.pool, new)]
    await end(database.pool, parent.id or 0)

    turns = await settle_all(database, Settler())

    assert turns == 4
    assert set(await states(database.pool, *children)) == {"available"}


async def test_lines_whose_children_are_held_are_no_reason_to_hurry(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "MOST", 2)
    batch = await enqueue_batch(database.pool, [NewJob(worker="w")] * 2, NewJob(worker="w"))
    await end(database.pool, *batch.ids)
    async with database.pool.acquire() as person, person.transaction():
        await person.execute("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE", batch.callback)
        async with database.pool.acquire() as connection:
            pause = await Settler().settle(connection)

    assert pause == settling.AGAIN


async def test_the_queues_of_the_freed_are_rung(database: TestDatabase) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await end(database.pool, parent)
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(*said: Any) -> None:
        heard.put_nowait(said[3])

    async with database.pool.acquire() as ear:
        await ear.add_listener("public.oban_insert", hear)
        await settle_all(database, Settler())
        said = await asyncio.wait_for(heard.get(), 10)
        await ear.remove_listener("public.oban_insert", hear)

    assert json.loads(said) == {"queue": "default"}
    assert await states(database.pool, child) == ["available"]


@pytest.mark.parametrize(
    ("changes", "pause"),
    [
        ({}, None),
        ({"mine": False}, settling.AGAIN),
        ({"lines": 2, "left": 1}, 0.0),
        ({"lines": 1, "left": 1}, None),
        ({"lines": MOST, "left": MOST}, settling.AGAIN),
        ({"lines": 1, "edges": MOST}, 0.0),
    ],
)
async def test_it_goes_on_while_there_is_more_and_it_gets_on(
    database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    pause: float | None,
) -> None:
    done = Settled(mine=True, lines=0, left=0, edges=0, freed=0, cancelled=0, queues=[], child=None)

    async def settle(*_: Any, **__: Any) -> Settled:
        return replace(done, **changes)

    monkeypatch.setattr(queries, "settle", settle)
    async with database.pool.acquire() as connection:
        assert await Settler().settle(connection) == pause


async def test_the_pruner_mends_and_forgets(database: TestDatabase) -> None:
    [parent] = await enqueue_many(database.pool, [NewJob(worker="w")])
    child = await quarterjack.enqueue(database.pool, "w", after=[parent.id or 0])
    gone = await quarterjack.enqueue(database.pool, "w", after=[parent.id or 0])
    await end(database.pool, parent.id or 0)
    await database.pool.execute("TRUNCATE qj_ended")
    await database.pool.execute("DELETE FROM oban_jobs WHERE id = $1", gone.id)
    pruner = Pruner(from_environment(), own_traces=False)

    async with database.pool.acquire() as connection:
        await pruner.prune(connection)
    await settle_all(database, Settler())

    assert await states(database.pool, child.id) == ["available"]
    edges = await database.pool.fetch("SELECT child, outcome FROM qj_edges")
    assert [tuple(edge) for edge in edges] == [(child.id, "completed")]
