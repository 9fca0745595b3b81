"""What is asked of a queue holds on every worker, at once and after a restart."""

from uuid import uuid4

import pytest

import quarterjack
from quarterjack.queries import producers, queues
from quarterjack.queries.producers import Asked
from quarterjack.queries.queues import ALL, OWN_LIMIT, Change
from quarterjack_worker.queues import Queues
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.waiting import until
from tests.worker.test_claims import producer

SHOWN = "SELECT paused, local_limit FROM qj_producers WHERE node = $1 AND state = 'running'"


async def _stands(database: TestDatabase, node: str, paused: bool, limit: int) -> bool:
    row = await database.pool.fetchrow(SHOWN, node)
    return row is not None and (row["paused"], row["local_limit"]) == (paused, limit)


async def _signal(database: TestDatabase, payload: str) -> None:
    await database.pool.execute("SELECT pg_notify('public.oban_signal', $1)", payload)


async def test_what_a_signal_asked_outlives_the_worker(database: TestDatabase) -> None:
    async with cluster(database) as running:
        before = await running.worker("worker-1", import_="tests.jobs", queues="default=5")
        await until(running.listening)
        await _signal(database, '{"action": "scale", "queue": "default", "limit": 3}')
        await _signal(database, '{"action": "pause", "queue": "*", "ident": "Oban.worker-1"}')
        await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM qj_queues"), within=5)

        await before.stop()
        await running.worker("worker-1", import_="tests.jobs", queues="default=5")
        await running.worker("worker-2", import_="tests.jobs", queues="default=5")
        await until(lambda: _stands(database, "worker-1", True, 3))
        await until(lambda: _stands(database, "worker-2", False, 3))


async def test_a_paused_queue_runs_nothing_from_the_start(database: TestDatabase) -> None:
    await queues.steer(database.pool, "default", Change(paused=True), node=ALL, by="ana")
    await quarterjack.enqueue(database.pool, "count")
    async with cluster(database) as running:
        await running.worker("worker-1", import_="tests.jobs", queues="default=5,other=1")
        await quarterjack.enqueue(database.pool, "count", queue="other")
        await until(
            lambda: database.pool.fetchval(
                "SELECT state = 'completed' FROM oban_jobs WHERE queue = 'other'"
            )
        )
        waits = "SELECT state::text FROM oban_jobs WHERE queue = 'default'"
        assert await database.pool.fetchval(waits) == "available"

        await queues.steer(database.pool, "default", Change(paused=False), node=ALL, by="ana")
        await until(
            lambda: database.pool.fetchval("SELECT bool_and(state = 'completed') FROM oban_jobs")
        )


async def test_what_is_asked_of_all_ends_what_was_asked_of_one(database: TestDatabase) -> None:
    async def ask(node: str, change: Change) -> bool:
        return await queues.steer(database.pool, "q", change, node=node, by="ana")

    async def asked() -> list[tuple[bool | None, bool | None, int | None]]:
        steered = await queues.steered(database.pool, "q")
        return [(each.paused, each.stopped, each.local_limit) for each in steered]

    assert await ask("n", Change(paused=False, stopped=False, limit=2))
    assert not await ask("n", Change(limit=2))
    assert await ask(ALL, Change(paused=True))
    assert not await ask(ALL, Change(paused=True))
    assert await asked() == [(True, None, None), (None, False, 2)]

    assert await ask(ALL, Change(stopped=True))
    assert await asked() == [(True, True, None), (None, None, 2)]

    assert await ask(ALL, Change(limit=OWN_LIMIT))
    assert await asked() == [(True, True, None), (None, None, None)]


async def test_what_is_not_asked_stays(database: TestDatabase) -> None:
    stands = []
    for wish in (
        Change(paused=True, stopped=True, limit=4),
        Change(paused=False),
        Change(stopped=False),
        Change(limit=5),
    ):
        assert await queues.steer(database.pool, "q", wish, node=ALL, by="ana")
        [now] = await queues.steered(database.pool, "q")
        stands.append((now.paused, now.stopped, now.local_limit))

    assert stands == [(True, True, 4), (False, True, 4), (False, False, 4), (False, False, 5)]


async def test_what_is_asked_of_one_goes_before_what_is_asked_of_all(
    database: TestDatabase,
) -> None:
    uuid = await producer(database)
    for node, wish in (
        (ALL, Change(paused=True, stopped=True, limit=3)),
        ("n", Change(paused=False, stopped=False, limit=2)),
        ("another", Change(paused=True, stopped=True, limit=1)),
    ):
        await queues.steer(database.pool, "default", wish, node=node, by="ana")

    asked = await producers.asked(database.pool, [uuid])

    assert asked == {uuid: Asked(paused=False, stopped=False, limit=2, limited=False)}


def test_what_was_read_before_a_signal_was_written_is_passed_over() -> None:
    uuid = uuid4()
    steered = Queues({"q": 5}, {"q": uuid}, "n")
    older = {uuid: Asked(paused=False, stopped=False, limit=None, limited=False)}
    steered.obey({"action": "pause", "queue": "q"})

    assert not steered.follow(older, read_at=1.0)
    steered.unwritten.clear()
    steered.written_at = 2.0
    assert not steered.follow(older, read_at=1.0)
    assert steered["q"].paused
    assert steered.follow(older, read_at=3.0)
    assert not steered["q"].paused


async def test_what_the_admin_keeps_no_worker_writes(database: TestDatabase) -> None:
    async with cluster(database) as running:
        await running.worker("worker-1", import_="tests.jobs", queues="default=5")
        await until(running.listening)
        pause = '{"action": "pause", "queue": "default", "ident": "any"}'
        await queues.signal(database.pool, [pause])
        await _signal(database, '{"action": "scale", "queue": "default", "limit": 3}')
        await until(lambda: database.pool.fetchval("SELECT local_limit = 3 FROM qj_queues"))

    assert await database.pool.fetchval("SELECT paused IS NULL FROM qj_queues")


def test_a_signal_that_is_kept_elsewhere_is_written_over_nothing() -> None:
    """The admin keeps what it asks before it says so; who hears that late follows what was asked since."""
    uuid = uuid4()
    steered = Queues({"q": 5}, {"q": uuid}, "n")
    stop = {"action": "stop", "queue": "q", "ident": "any"}
    steered.kept.append(stop)
    steered.obey(dict(stop))
    assert (steered["q"].stopped, steered.unwritten) == (True, {})

    started = {uuid: Asked(paused=False, stopped=False, limit=None, limited=False)}
    assert not steered.follow(started, steered.written_at - 1)
    assert steered.follow(started, steered.written_at + 1)
    assert not steered["q"].stopped

    steered.obey(dict(stop))
    assert steered.unwritten == {("q", ALL): Change(stopped=True)}


def test_a_signal_that_is_kept_elsewhere_outlives_an_older_one_that_is_not_written_yet() -> None:
    """As when a worker that was stopped for a while hears both at once: it must not bring the older one back."""
    steered = Queues({"q": 5}, {"q": uuid4()}, "n")
    steered.obey({"action": "pause", "queue": "q"})
    resume = {"action": "resume", "queue": "q", "ident": "any"}
    steered.kept.append(resume)

    steered.obey(dict(resume))

    assert not steered["q"].paused
    assert steered.unwritten == {("q", ALL): Change(paused=False)}


@pytest.mark.parametrize("action", ["scale", "stop", "start"])
def test_a_star_means_all_queues_only_where_it_does_so_for_every_oban(action: str) -> None:
    steered = Queues({"q": 5, "*": 5}, {"q": uuid4(), "*": uuid4()}, "n")
    steered["q"].stopped = steered["*"].stopped = action == "start"

    steered.obey({"action": action, "queue": "*", "limit": 3})

    assert list(steered.unwritten) == [("*", ALL)]
    assert steered["q"].limit == 5


@pytest.mark.parametrize("limit", [0, -1, 10_001, "3", True, None, 2.0])
def test_a_limit_that_cannot_be_is_passed_over(limit: object) -> None:
    steered = Queues({"q": 5}, {"q": uuid4()}, "n")

    steered.obey({"action": "scale", "queue": "q", "limit": limit})

    assert steered["q"].limit == 5
    assert not steered.unwritten
