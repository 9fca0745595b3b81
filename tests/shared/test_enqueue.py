"""Jobs enter oban_jobs through the client, and wake whoever works on their queue."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest

import quarterjack
from quarterjack import JobInvalid, JobState, NewJob, Unique
from quarterjack.client import check_db
from quarterjack.queries import jobs
from tests.conftest import TestDatabase


def nested(depth: int) -> dict[str, Any]:
    """An object in an object, so many times."""
    made: dict[str, Any] = {}
    for _ in range(depth - 1):
        made = {"a": made}
    return made


async def test_a_job_is_stored_as_oban_stores_it(database: TestDatabase) -> None:
    result = await quarterjack.enqueue(
        database.pool,
        "send_email",
        {"to": "ana"},
        queue="mail",
        priority=3,
        max_attempts=5,
        tags=[" News ", "news", ""],
    )

    assert result.id is not None
    job = await jobs.find(database.pool, result.id)
    assert job is not None
    assert (job.state, job.worker, job.queue) == (JobState.AVAILABLE, "send_email", "mail")
    assert (job.args, job.meta, job.tags) == ({"to": "ana"}, {}, ["news"])
    assert (job.priority, job.max_attempts, job.attempt) == (3, 5, 0)
    assert abs(job.inserted_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_time_makes_it_scheduled(database: TestDatabase) -> None:
    due = datetime(2030, 1, 1, 12, tzinfo=UTC)

    result = await quarterjack.enqueue(database.pool, "later", scheduled_at=due)

    job = await jobs.find(database.pool, result.id or 0)
    assert job is not None
    assert (job.state, job.scheduled_at) == (JobState.SCHEDULED, due)


async def test_a_rolled_back_transaction_leaves_no_job(database: TestDatabase) -> None:
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await quarterjack.enqueue(connection, "never")
        await transaction.rollback()

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 0


async def test_many_jobs_keep_their_order(database: TestDatabase) -> None:
    results = await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="w", args={"n": n}) for n in range(500)]
    )

    stored = await database.pool.fetch("SELECT id, args FROM oban_jobs ORDER BY id")
    assert [row["id"] for row in stored] == [result.id for result in results]
    assert [row["args"]["n"] for row in stored] == list(range(500))


@pytest.mark.parametrize(
    "way", ["client", "client_with_one", "client_in_transaction", "psql", "copy"]
)
async def test_each_kind_of_insert_rings_once(database: TestDatabase, way: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))

    async with database.pool.acquire() as connection:
        if way == "client":
            await quarterjack.enqueue_many(connection, [NewJob(worker="w", queue="q")] * 3)
        elif way == "client_with_one":
            await quarterjack.enqueue(connection, "w", queue="q")
        elif way == "client_in_transaction":
            async with connection.transaction():
                await quarterjack.enqueue(connection, "w", queue="q")
        elif way == "psql":
            await connection.execute(
                "INSERT INTO oban_jobs (worker, queue) VALUES ('w', 'q'), ('w', 'q')"
            )
        else:
            await connection.copy_records_to_table(
                "oban_jobs", records=[("w", "q")], columns=["worker", "queue"]
            )
        await connection.execute("SELECT pg_notify('public.oban_insert', 'end')")

    async with asyncio.timeout(5):
        assert json.loads(await heard.get()) == {"queue": "q"}
        assert await heard.get() == "end"
    await ear.close()


async def test_a_scheduled_insert_rings_nobody(database: TestDatabase) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))

    await quarterjack.enqueue(database.pool, "w", scheduled_at=datetime.now(UTC))
    await database.pool.execute("SELECT pg_notify('public.oban_insert', 'end')")

    async with asyncio.timeout(5):
        assert await heard.get() == "end"
    await ear.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"args": {"x": "a\x00b"}}, "NUL"),
        ({"args": {"x": "\ud800"}}, "surrogate"),
        ({"args": {"x": float("nan")}}, "JSON"),
        ({"args": {"x": object()}}, "JSON"),
        ({"args": {1: "x"}}, "key that is not a text"),
        ({"args": ["x"]}, "give an object"),
        ({"args": []}, "give an object"),
        ({"args": NewJob(worker="w")}, "NewJob: give an object with text keys, or what .*new_job"),
        ({"meta": ""}, "give an object"),
        ({"args": {"x": [{1: "x"}]}}, "key that is not a text"),
        ({"args": {"x": {None: 1, "null": 2}}}, "key that is not a text"),
        ({"args": nested(201)}, "deeper than 200"),
        ({"args": nested(100_000)}, "deeper than 200"),
        ({"args": {"x": "y" * 64_000_001}}, "64 MB"),
        ({"args": {"x": 10**5_000}}, "JSON"),
        ({"args": {"x": [{"y": -(10**1_000)}]}}, "1000 digits"),
        ({"worker": "\ud800"}, "worker"),
        ({"worker": nested}, "new_job makes of a handler"),
        ({"queue": "\udfff"}, "queue"),
        ({"tags": ["\ud800"]}, "tags"),
        ({"tags": None}, "tags"),
        ({"tags": {"a", 5}}, "tags"),
        ({"scheduled_at": "2030-01-01"}, "aware datetime"),
        ({"scheduled_at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=9)))}, "out of"),
        ({"unique": 60}, "Unique"),
        ({"meta": {"qj_unique": "mine"}}, "qj_unique"),
        ({"queue": ""}, "queue"),
        ({"queue": "q" * 128}, "queue"),
        ({"priority": 10}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"scheduled_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - the case tested
        ({"tags": "word"}, "tags"),
    ],
)
async def test_bad_jobs_are_refused_before_anything_is_sent(
    database: TestDatabase, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(JobInvalid, match=says):
        await quarterjack.enqueue(database.pool, **{"worker": "w", **change})

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 0


async def test_what_is_no_job_is_refused_and_any_iterable_taken(database: TestDatabase) -> None:
    neither: Any = [NewJob(worker="w"), {"worker": "w"}]
    with pytest.raises(JobInvalid, match="is no job"):
        await quarterjack.enqueue_many(database.pool, neither)

    results = await quarterjack.enqueue_many(database.pool, (NewJob(worker="w") for _ in range(3)))

    assert [row["id"] for row in await database.pool.fetch("SELECT id FROM oban_jobs")] == [
        result.id for result in results
    ]


@pytest.mark.parametrize("depth", [1, 200])
async def test_a_unique_job_may_be_as_deep_as_any(database: TestDatabase, depth: int) -> None:
    result = await quarterjack.enqueue(database.pool, "w", nested(depth), unique=Unique())

    job = await jobs.find(database.pool, result.id or 0)
    assert job is not None
    assert job.args == nested(depth)


@pytest.mark.parametrize("unique", [None, Unique()])
async def test_any_number_of_jobs_costs_two_statements(
    database: TestDatabase, unique: Unique | None
) -> None:
    sent: list[str] = []
    async with database.pool.acquire() as connection:
        connection.add_query_logger(lambda record: sent.append(record.query))

        await quarterjack.enqueue_many(
            connection, [NewJob(worker="w", args={"n": n}, unique=unique) for n in range(1_000)]
        )

    assert len([query for query in sent if "oban_" in query]) == 2


async def test_awkward_args_arrive_intact(database: TestDatabase) -> None:
    args = {"big": 2**200, "text": "\\u0000 žluť 🕰", "deep": [[[{}]]], "long": "x" * 3_000_000}

    result = await quarterjack.enqueue(database.pool, "w", args)

    job = await jobs.find(database.pool, result.id or 0)
    assert job is not None
    assert job.args == args


async def test_what_is_no_database_is_refused_by_its_kind(database: TestDatabase) -> None:
    with pytest.raises(TypeError, match="str is no pool and no connection"):
        await quarterjack.enqueue(database.url, "any")  # type: ignore[arg-type]


async def test_a_pool_of_another_event_loop_is_refused(database: TestDatabase) -> None:
    def elsewhere() -> None:
        asyncio.run(quarterjack.enqueue(database.pool, "any"))

    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(elsewhere)


async def test_a_pool_from_before_a_fork_is_refused(database: TestDatabase) -> None:
    child = os.fork()
    if not child:
        try:
            check_db(database.pool)
        except RuntimeError as error:
            os._exit(7 if "forked" in str(error) else 1)
        finally:
            os._exit(2)

    _, status = await asyncio.to_thread(os.waitpid, child, 0)

    assert os.waitstatus_to_exitcode(status) == 7
