"""Jobs enter oban_jobs through the client, and wake whoever works on their queue."""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import asyncpg
import pytest

import quarterjack
from quarterjack import Enqueued, JobInvalid, JobState, NewJob, Unique, bell
from quarterjack.queries import jobs
from tests.conftest import TestDatabase
from tests.waiting import until

SLOW_INSERTS = """
CREATE FUNCTION take_a_moment() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON oban_jobs FOR EACH ROW EXECUTE FUNCTION take_a_moment();
"""
WAIT_FOR_THE_TEST = """
CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
CREATE TRIGGER wait BEFORE INSERT ON oban_jobs FOR EACH ROW WHEN (NEW.priority = 1)
  EXECUTE FUNCTION wait_for_the_test();
"""
WAITING = """
SELECT count(*) > 0 FROM pg_locks
WHERE locktype = $1 AND NOT granted
  AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
"""


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


async def test_clients_that_ring_at_once_ring_for_each_other(database: TestDatabase) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    ear = await asyncpg.connect(database.url)
    await ear.add_listener("public.oban_insert", lambda *said: heard.put_nowait(str(said[3])))
    queues = {f"q{number}" for number in range(100)}

    await asyncio.gather(
        *(quarterjack.enqueue(database.pool, "w", queue=queue) for queue in queues)
    )

    missing = set(queues)
    async with asyncio.timeout(5):
        while missing:
            missing.discard(json.loads(await heard.get())["queue"])
    assert bell.BELLS == {}
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


async def test_a_unique_job_conflicts_within_its_period(database: TestDatabase) -> None:
    unique = Unique(period=timedelta(minutes=1))
    first = await quarterjack.enqueue(database.pool, "w", {"a": 1, "b": 2}, unique=unique)

    second = await quarterjack.enqueue(database.pool, "w", {"b": 2, "a": 1}, unique=unique)
    other = await quarterjack.enqueue(database.pool, "w", {"a": 2}, unique=unique)

    assert second == Enqueued(id=first.id, conflict=True)
    assert not other.conflict


async def test_a_unique_job_is_free_again_after_its_period(database: TestDatabase) -> None:
    unique = Unique(period=timedelta(minutes=1))
    await quarterjack.enqueue(database.pool, "w", unique=unique)
    await database.pool.execute("UPDATE oban_jobs SET inserted_at = inserted_at - interval '61 s'")

    assert not (await quarterjack.enqueue(database.pool, "w", unique=unique)).conflict


@pytest.mark.parametrize(("states", "conflict"), [("successful", True), ("incomplete", False)])
async def test_the_states_decide_whether_a_completed_job_blocks(
    database: TestDatabase, states: str, conflict: bool
) -> None:
    unique = Unique(period=None, states=states)
    await quarterjack.enqueue(database.pool, "w", unique=unique)
    await database.pool.execute("UPDATE oban_jobs SET state = 'completed'")

    assert (await quarterjack.enqueue(database.pool, "w", unique=unique)).conflict is conflict


async def test_of_many_concurrent_unique_inserts_one_wins(database: TestDatabase) -> None:
    unique = Unique(period=timedelta(minutes=1))

    results = await asyncio.gather(
        *(quarterjack.enqueue(database.pool, "w", unique=unique) for _ in range(40))
    )

    assert sum(not result.conflict for result in results) == 1
    assert len({result.id for result in results}) == 1
    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 1


async def test_a_batch_conflicts_with_itself(database: TestDatabase) -> None:
    unique = Unique(period=None)

    first, second, plain = await quarterjack.enqueue_many(
        database.pool,
        [NewJob(worker="w", unique=unique), NewJob(worker="w", unique=unique), NewJob(worker="w")],
    )

    assert (first.conflict, second.conflict, plain.conflict) == (False, True, False)
    assert first.id == second.id


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
        ({"meta": ""}, "give an object"),
        ({"args": {"x": [{1: "x"}]}}, "key that is not a text"),
        ({"args": {"x": {None: 1, "null": 2}}}, "key that is not a text"),
        ({"args": nested(201)}, "deeper than 200"),
        ({"args": nested(100_000)}, "deeper than 200"),
        ({"args": {"x": "y" * 64_000_001}}, "64 MB"),
        ({"args": {"x": 10**5_000}}, "JSON"),
        ({"worker": "\ud800"}, "worker"),
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


@pytest.mark.parametrize(
    "odd",
    [{"keys": 5}, {"fields": 5}, {"fields": []}, {"fields": [[]]}, {"states": []}, {"replace": 5}],
)
def test_a_uniqueness_that_cannot_be_meant_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(JobInvalid, match=f"unique {next(iter(odd))}"):
        Unique(**odd)


@pytest.mark.parametrize("depth", [1, 200])
async def test_a_unique_job_may_be_as_deep_as_any(database: TestDatabase, depth: int) -> None:
    result = await quarterjack.enqueue(database.pool, "w", nested(depth), unique=Unique())

    job = await jobs.find(database.pool, result.id or 0)
    assert job is not None
    assert job.args == nested(depth)


@pytest.mark.parametrize("period", [timedelta(0), timedelta.max, timedelta(days=40_000), 60])
def test_a_uniqueness_without_end_is_said_so(period: Any) -> None:
    with pytest.raises(JobInvalid, match="None for ever"):
        Unique(period=period)


@pytest.mark.parametrize(
    "stored", [{"keys": "abc"}, {"fields": "args"}, {"states": []}, {"keys": [1]}]
)
def test_a_stored_uniqueness_that_cannot_be_meant_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(JobInvalid):
        Unique.from_json(stored)


async def test_unique_batches_in_opposite_order_do_not_deadlock(database: TestDatabase) -> None:
    await database.pool.execute(SLOW_INSERTS)
    unique = Unique(period=None)
    forth = [NewJob(worker="w", args={"n": n}, unique=unique) for n in range(100)]

    batches = await asyncio.gather(
        *(
            quarterjack.enqueue_many(database.pool, forth if number % 2 else forth[::-1])
            for number in range(4)
        )
    )

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 100
    assert sum(not result.conflict for batch in batches for result in batch) == 100


async def test_unique_batches_with_other_periods_that_deadlock_go_on(
    database: TestDatabase,
) -> None:
    """One has released a key when the other waits for that, and then waits for one that the other has inserted."""
    pool, short, long = database.pool, Unique(), Unique(period=None)
    first, last = sorted(
        ({"n": n} for n in range(2)),
        key=lambda args: long.key(worker="w", queue="default", args=args),
    )
    await quarterjack.enqueue(pool, "w", last, unique=long)
    await pool.execute("UPDATE oban_jobs SET inserted_at = inserted_at - interval '1 hour'")
    await pool.execute(WAIT_FOR_THE_TEST)
    async with pool.acquire() as holder, asyncio.TaskGroup() as inserts, holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock(7)")
        for priority, unique, lock in ((1, short, "advisory"), (0, long, "transactionid")):
            made = [
                NewJob(worker="w", args=args, unique=unique, priority=priority)
                for args in (first, last)
            ]
            inserts.create_task(quarterjack.enqueue_many(pool, made))
            await until(partial(pool.fetchval, WAITING, lock))

    held = await pool.fetch("SELECT meta ->> 'qj_unique' FROM oban_jobs WHERE meta ? 'qj_unique'")
    assert len(held) == 2


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
