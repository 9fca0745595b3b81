"""A worker shows that it lives, whatever becomes of the jobs' table."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from quarterjack.database import connect
from quarterjack.queries.producers import Producing
from quarterjack_worker.heartbeat import Heartbeat, HeartbeatEnded
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.test_claims import producer

SILENCE = "SELECT clock_timestamp() - heartbeat_at < $1::text::interval FROM qj_producers"


@asynccontextmanager
async def beating(
    database: TestDatabase, *, lock: str, asked: Callable[..., object] = lambda *_: None
) -> AsyncIterator[asyncio.StreamReader]:
    """Beat for a long silent producer while somebody holds the lock; the turns that are shown, until it ends."""
    mine = [
        Producing(uuid=await producer(database), queue="default", limit=1, running=0, paused=False)
    ]
    turns, (reader, writer) = asyncio.StreamReader(), os.pipe()
    heartbeat = Heartbeat(
        database.address,
        "n",
        lambda: mine,
        asked=asked,
        condemned=lambda: None,
        turns=writer,
    )
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(turns), os.fdopen(reader, "rb")
    )
    async with database.pool.acquire() as other, other.transaction():
        await database.pool.execute("UPDATE qj_producers SET heartbeat_at = 'epoch'")
        await other.execute(lock)
        heartbeat.start()
        try:
            yield turns
        finally:
            await heartbeat.stop()
            async with asyncio.timeout(5):
                await turns.read()
            transport.close()


@pytest.mark.parametrize("table", ["oban_jobs", "oban_producers"])
async def test_a_lock_on_a_table_of_oban_makes_no_worker_look_dead(
    database: TestDatabase, table: str
) -> None:
    async with beating(database, lock=f"LOCK {table}"):
        await until(lambda: database.pool.fetchval(SILENCE, "2 s"), within=5)


async def test_turns_are_shown_while_no_beat_is_answered(
    database: TestDatabase,
) -> None:
    """Whoever stands in for a heartbeat without turns does not stand in for a database that refuses beats."""
    async with beating(database, lock="LOCK qj_producers") as turns, asyncio.timeout(5):
        await turns.readexactly(4)


async def test_a_turn_is_followed_by_one_beat(database: TestDatabase) -> None:
    beats: list[float] = []
    async with (
        beating(database, lock="SELECT", asked=lambda _, at: beats.append(at)) as turns,
        asyncio.timeout(10),
    ):
        await turns.readexactly(4)

    assert 2 <= len(beats) <= 4


async def test_a_life_counts_before_it_can_claim(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that takes the process down may be claimed before the thread has had a turn."""
    monkeypatch.setattr(Heartbeat, "_live", lambda _: None)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(reader, "rb", buffering=0) as turns, os.fdopen(writer, "wb"):
        heartbeat = Heartbeat(
            database.address,
            "n",
            list,
            asked=lambda *_: None,
            condemned=lambda: None,
            turns=writer,
        )
        heartbeat.start()

        assert turns.read(1) == b"."


async def test_a_heartbeat_that_ends_by_an_error_ends_its_process(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.heartbeat._end_with_parent", None)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0):
        heartbeat = Heartbeat(
            database.address,
            "n",
            list,
            asked=lambda *_: None,
            condemned=lambda: None,
            turns=writer,
        )
        heartbeat.start()

        with pytest.raises(HeartbeatEnded):
            async with asyncio.timeout(10):
                await heartbeat.watch()


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize(
    ("dead", "stopping", "times"), [(0, False, 0), (1, False, 1), (1, True, 0)]
)
async def test_a_worker_of_whose_queues_one_was_declared_dead_is_condemned(
    database: TestDatabase, dead: int, stopping: bool, times: int, looks: bool
) -> None:
    """Its jobs are others' by then; one that ends takes its producers away by itself."""
    mine = [
        Producing(uuid=await producer(database), queue=queue, limit=1, running=0, paused=False)
        for queue in ("default", "other")
    ]
    await database.pool.execute(
        "UPDATE qj_producers SET state = 'dead' WHERE uuid = $1",
        mine[dead - 1].uuid if dead else None,
    )
    condemned: list[int] = []
    heartbeat = Heartbeat(
        database.address,
        "n",
        lambda: mine,
        asked=lambda *_: None,
        condemned=lambda: condemned.append(1),
        turns=-1,
    )
    if stopping:
        heartbeat._stopping.set()
    db = await connect(database.address, name="beat")
    try:
        await heartbeat._beat(db, looks=looks)
    finally:
        await db.close()

    assert len(condemned) == times
