"""How worker processes show that they live, and what becomes of their rows and jobs when they do not."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from quarterjack.queries import producers
from quarterjack.queries.producers import Asked, Producing
from tests.conftest import TestDatabase
from tests.scheduler.rows import WAITS, add_job, add_producer, states

Sign = Callable[[TestDatabase, UUID, bool], Awaitable[Mapping[UUID, Asked]]]


async def beat(database: TestDatabase, uuid: UUID, draining: bool) -> Mapping[UUID, Asked]:
    own = Producing(uuid=uuid, queue="default", limit=5, running=0, paused=False)
    return await producers.beat(
        database.pool, node="n", name="Oban", draining=draining, producers=[own]
    )


async def stay(database: TestDatabase, uuid: UUID, draining: bool) -> Mapping[UUID, Asked]:
    return await producers.stay(database.pool, uuids=[uuid], draining=draining)


@pytest.mark.parametrize("sign", [beat, stay])
async def test_no_sign_of_life_revives_the_dead(database: TestDatabase, sign: Sign) -> None:
    uuid = await add_producer(database.pool, state="dead")

    assert await sign(database, uuid, False) == {}
    assert await _shown(database, "qj_producers", "state") == ["dead"]


@pytest.mark.parametrize("sign", [beat, stay])
async def test_a_sign_of_life_says_whether_the_worker_goes_on(
    database: TestDatabase, sign: Sign
) -> None:
    uuid = await add_producer(database.pool)
    for draining, state in ((True, "draining"), (False, "running")):
        assert (await sign(database, uuid, draining)).keys() == {uuid}
        assert await _shown(database, "qj_producers", "state") == [state]


async def test_a_heartbeat_finds_no_work_in_jobs_that_nobody_may_claim(
    database: TestDatabase,
) -> None:
    uuid = await add_producer(database.pool)
    await add_job(database.pool, "spent", attempt=1, max_attempts=1)
    assert not (await beat(database, uuid, False))[uuid].waiting

    await add_job(database.pool, "fresh")
    assert (await beat(database, uuid, False))[uuid].waiting


async def test_a_producer_that_is_entered_again_is_the_same(database: TestDatabase) -> None:
    uuid = await add_producer(database.pool)
    own = Producing(uuid=uuid, queue="default", limit=9, running=0, paused=False)

    await producers.register(
        database.pool, node="n", pid=1, version="0", name="Oban", producers=[own]
    )

    assert await _shown(database, "qj_producers", "local_limit") == [5]


async def test_who_leaves_is_shown_no_more(database: TestDatabase) -> None:
    uuid = await add_producer(database.pool)
    await beat(database, uuid, False)

    await producers.leave(database.pool, uuids=[uuid])

    assert await _shown(database, "oban_producers", "uuid") == []
    assert await _shown(database, "qj_producers", "uuid") == []


@pytest.mark.parametrize(("apart", "tried"), [(False, "available"), (True, "retryable")])
async def test_the_jobs_of_a_process_that_was_seen_to_end_run_again_while_they_may(
    database: TestDatabase, apart: bool, tried: str
) -> None:
    """Those that were tried before wait for a while, if one of them may have ended it."""
    uuid = await add_producer(database.pool)
    await beat(database, uuid, False)
    own = {"attempted_by": ["n", str(uuid), "x"], "attempt": 1}
    await add_job(database.pool, "again", state="executing", **own)
    await add_job(database.pool, "tried", state="executing", **own | {"attempt": 3})
    await add_job(database.pool, "last", state="executing", max_attempts=1, **own)
    await add_job(database.pool, "done", state="completed", **own)

    await producers.bury(database.pool, uuids=[uuid], reason="it was killed", apart=apart)

    assert await database.pool.fetchval(WAITS) == apart
    assert await states(database) == {
        "again": "available",
        "tried": tried,
        "last": "discarded",
        "done": "completed",
    }
    assert await _shown(database, "oban_producers", "uuid") == []
    assert await _shown(database, "qj_producers", "state") == ["dead"]


async def _shown(database: TestDatabase, table: str, column: str) -> list[Any]:
    return [row[column] for row in await database.pool.fetch(f"SELECT * FROM {table}")]
