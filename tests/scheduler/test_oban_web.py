"""What the leader tells Oban Web, and what it keeps to itself."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

import quarterjack
from quarterjack import NewJob, channels
from quarterjack_scheduler import oban_web
from quarterjack_scheduler.oban_web import Counts, ObanWeb
from tests.conftest import TestDatabase
from tests.interop.met import Met
from tests.scheduler.replica import add_schedule
from tests.waiting import until

SHARED: dict[str, Any] = {"crontab": [], "name": "Oban", "node": "web-1"}
COUNTED = [{"series": "full_count", "state": "completed", "queue": "q", "value": {"data": [1]}}]
OTHER: dict[str, Any] = {"metrics": COUNTED, "name": "Oban", "node": "web-1", "time": 1}


@pytest.fixture
async def met(database: TestDatabase) -> AsyncIterator[Met]:
    connection = await asyncpg.connect(database.url)
    heard = Met()
    for name in (channels.CRONITOR, channels.METRICS):
        await connection.add_listener(
            f"public.{name}",
            lambda _, __, channel, payload: heard.hear(channel.partition(".")[2], str(payload)),
        )
    yield heard
    await connection.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [1_000.0]
    monkeypatch.setattr(oban_web, "boot", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


async def tell(web: ObanWeb, database: TestDatabase) -> float | None:
    async with database.pool.acquire() as connection:
        return await web.tell(connection)


async def test_a_schedule_that_cannot_be_shown_hides_no_other(
    database: TestDatabase, met: Met
) -> None:
    deep = '{"a":' * 3_000 + "1" + "}" * 3_000
    for name in ("deep", "paused", "nightly"):
        await add_schedule(
            database.pool, name, cron="0 3 * * *", next_run_at="2099-01-01T03:00:00+00:00"
        )
    await database.pool.execute(
        "UPDATE qj_schedules SET args = $1::text::jsonb WHERE name = 'deep'", deep
    )
    await database.pool.execute(
        "UPDATE qj_schedules SET paused_at = now(), paused_by = 'ana' WHERE name = 'paused'"
    )
    web = ObanWeb("s")
    web.heard(channels.CRONITOR, SHARED)

    assert await tell(web, database) == 1.0

    await until(lambda: _true(met.crontabs))
    assert [options["name"] for _, _, options in met.crontab()] == ["nightly"]


async def test_counts_wait_until_no_other_counts(
    database: TestDatabase, met: Met, clock: Callable[[float], None]
) -> None:
    await quarterjack.enqueue(database.pool, "w")
    web = ObanWeb("s")
    assert await tell(web, database) is None
    web.heard(channels.CRONITOR, SHARED)

    await tell(web, database)
    clock(4.0)
    web.heard(channels.METRICS, OTHER)
    web.heard(channels.METRICS, OTHER | {"software": "quarterjack"})
    clock(4.0)
    await tell(web, database)
    await until(lambda: _true(met.crontabs))
    assert met.metrics == []

    clock(1.5)
    web.heard(channels.METRICS, OTHER | {"metrics": []})
    await tell(web, database)
    await until(lambda: _true(met.metrics))
    assert met.counts() == {("available", "default"): 1}


async def test_many_jobs_are_counted_once_a_minute(
    database: TestDatabase, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oban_web, "MANY", 3)
    counts = Counts()

    async def look() -> list[tuple[str, str, int]]:
        async with database.pool.acquire() as connection:
            return await counts.look(connection)

    await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="w", queue=queue) for queue in "aab"]
    )
    assert await look() == [("available", "a", 2), ("available", "b", 1)]
    await database.pool.execute(
        "UPDATE oban_jobs SET state = 'completed', completed_at = now() WHERE queue = 'a'"
    )

    clock(1.0)
    assert await look() == [
        ("available", "a", 2),
        ("available", "b", 1),
        ("completed", "a", 2),
    ]
    clock(60.0)
    assert await look() == [("available", "b", 1), ("completed", "a", 2)]


async def _true(value: object) -> bool:
    return bool(value)
