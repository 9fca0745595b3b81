"""What our statements, procedures and triggers notify, whatever a queue is called: no Oban is harmed by it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

import quarterjack
from quarterjack import NewJob, Unique, channels
from quarterjack.queries import bulk, jobs, queues
from quarterjack.queries.bulk import Chosen
from quarterjack.queries.queues import ALL, Change
from quarterjack_admin.pages.queues import Wish, signals
from tests.conftest import TestDatabase
from tests.interop.met import Met, read
from tests.interop.oban_py import oban_py
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres
QUEUES = (
    *(
        "mail",
        "a b",
        'a"b',
        "a\\b",
        "a'b",
        "a\tb\nc\x01\x7f",
        "\u2028\u00a0",
        "$1 %s {}",
        "null",
        "Z:",
    ),
    *("\U0001f642" * 127, "\u00fc" * 127),
)
OTHERS = ("leader", "sonar", "handoff", "diagnostics", "diagnostics_reply", "stager", "update")


@asynccontextmanager
async def hearing(database: TestDatabase) -> AsyncIterator[list[tuple[str, str]]]:
    """Collect what is notified on every channel of Oban's, by its name."""
    heard: list[tuple[str, str]] = []
    connection = await asyncpg.connect(database.url)

    def hear(_: object, __: int, channel: str, payload: object) -> None:
        heard.append((channel.partition(".")[2], str(payload)))

    for name in (*OTHERS, "insert", "signal", "gossip", "metrics", "cronitor", "end"):
        await connection.add_listener(f"{database.address.schema}.oban_{name}", hear)
    try:
        yield heard
    finally:
        await connection.close()


async def notified(database: TestDatabase, heard: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give what was heard until now."""
    await database.pool.execute("SELECT pg_notify(current_schema() || '.oban_end', '')")

    async def ended() -> bool:
        return heard[-1:] == [("oban_end", "")]

    await until(ended)
    return heard[:-1]


def chosen(state: str, queue: str, above: int = 0) -> Chosen:
    return Chosen(states=[state], worker=None, queue=queue, above=above, upto=2**62)


async def _insert_in_every_way(database: TestDatabase, queue: str) -> None:
    pool = database.pool
    await quarterjack.enqueue(pool, "w", queue=queue)
    await quarterjack.enqueue_many(pool, [NewJob(worker="w", queue=queue)] * 2)
    await quarterjack.enqueue(pool, "w", {"in": queue}, queue=queue, unique=Unique())
    async with pool.acquire() as connection, connection.transaction():
        await quarterjack.enqueue(connection, "w", queue=queue)
    await pool.execute("INSERT INTO oban_jobs (worker, queue) VALUES ('w', $1)", queue)
    await pool.execute("UPDATE oban_jobs SET state = 'discarded' WHERE queue = $1", queue)
    await bulk.retry(pool, await bulk.pick(pool, chosen("discarded", queue)))


async def test_inserts_ring_for_every_oban_whatever_the_queue_is_called(
    shared: TestDatabase,
) -> None:
    async with hearing(shared) as heard:
        for queue in QUEUES:
            await _insert_in_every_way(shared, queue)
        said = await notified(shared, heard)
    met = Met()
    for channel, payload in said:
        met.hear(channel, payload)
    async with oban_py(shared) as node:
        there = await node.ask("decode", payloads=[payload for _, payload in said])

    wanted = [{"queue": queue} for queue in QUEUES for _ in range(6)]
    assert {channel for channel, _ in said} == {channels.INSERT}
    assert [read(payload) for _, payload in said] == wanted
    assert there == wanted


async def test_what_steers_has_obans_keys_and_numbers(database: TestDatabase) -> None:
    await quarterjack.enqueue_many(database.pool, [NewJob(worker="w")] * 3)
    await database.pool.execute("UPDATE oban_jobs SET state = 'executing'")
    async with hearing(database) as heard:
        await jobs.stop(database.pool, [1])
        running = chosen("executing", "default", above=1)
        await bulk.cancel(database.pool, await bulk.pick(database.pool, running))
        for queue in QUEUES:
            for change in (Change(paused=True), Change(paused=False), Change(limit=3)):
                wish = Wish(queue=queue, node=ALL, change=change, reason="")
                await queues.signal(database.pool, signals(wish))
        said = await notified(database, heard)
    met = Met()
    for channel, payload in said:
        met.hear(channel, payload)

    assert {channel for channel, _ in said} == {channels.SIGNAL}
    stopped = [message for _, each in said if (message := json.loads(each))["action"] == "pkill"]
    assert [message["job_id"] for message in stopped] == [1, 2, 3]
    assert len(said) == 3 + 3 * len(QUEUES)


def test_pausing_a_queue_named_as_all_are_is_told_nobody() -> None:
    wishes = [
        Wish(queue="*", node=node, change=Change(paused=paused), reason="")
        for node in (ALL, "n")
        for paused in (True, False)
    ]

    assert [signals(wish) for wish in wishes] == [[]] * 4
    assert len(signals(Wish(queue="*", node=ALL, change=Change(limit=3), reason=""))) == 1
