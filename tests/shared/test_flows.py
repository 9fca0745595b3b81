"""Jobs that wait for others: what an insert writes, and what becomes of them when those end."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

import quarterjack
from quarterjack import JobInvalid, NewJob, Unique, enqueue_many
from quarterjack.queries import flows, jobs, settling
from tests.conftest import TestDatabase
from tests.flows import ALWAYS, end, enqueue, settle, states

EDGES = "SELECT parent, child, name, outcome FROM qj_edges ORDER BY parent, child"


async def test_a_job_waits_until_all_that_it_is_after_have_completed(
    database: TestDatabase,
) -> None:
    first, second = await enqueue(database), await enqueue(database)
    child = await enqueue(database, after=[second, first, second])

    seen = []
    for id in (first, second):
        seen += await states(database.pool, child)
        await end(database.pool, id)
        await settle(database.pool)

    assert seen == ["suspended", "suspended"]
    assert await states(database.pool, child) == ["available"]
    assert [tuple(row) for row in await database.pool.fetch(EDGES)] == [
        (first, child, None, "completed"),
        (second, child, None, "completed"),
    ]


async def test_a_job_after_one_that_has_completed_is_freed_at_once(database: TestDatabase) -> None:
    parent = await enqueue(database)
    await end(database.pool, parent)

    child = await enqueue(database, after=[parent])
    await settle(database.pool)

    assert await states(database.pool, child) == ["available"]


@pytest.mark.parametrize("state", ["cancelled", "discarded", "deleted"])
@pytest.mark.parametrize("already", [True, False])
async def test_a_job_whose_parent_does_not_complete_is_cancelled_and_says_why(
    database: TestDatabase, state: str, already: bool
) -> None:
    parent = await enqueue(database)
    if not already or state == "deleted":
        child = await enqueue(database, after=[parent])
        patient = await enqueue(database, after=[parent], even_if=[state])
    if state == "deleted":
        await database.pool.execute("DELETE FROM oban_jobs WHERE id = $1", parent)
    else:
        await end(database.pool, parent, state=state)
    if already and state != "deleted":
        child = await enqueue(database, after=[parent])
        patient = await enqueue(database, after=[parent], even_if=[state])
    await settle(database.pool)

    job = await jobs.find(database.pool, child)

    assert job is not None
    assert job.state == "cancelled"
    assert job.cancelled_at is not None
    assert [error["error"] for error in job.errors] == [
        f"Cancelled: it waited for job {parent}, which was {state}"
    ]
    assert await states(database.pool, patient) == ["available"]


async def test_a_chain_falls_down_to_its_end_and_a_deaf_one_does_not(
    database: TestDatabase,
) -> None:
    first = await enqueue(database)
    second = await enqueue(database, after=[first])
    third = await enqueue(database, after=[second])
    deaf = await enqueue(database, after=[second], even_if=ALWAYS)

    await end(database.pool, first, state="discarded")
    await settle(database.pool)

    assert await states(database.pool, second, third, deaf) == [
        "cancelled",
        "cancelled",
        "available",
    ]


async def test_a_job_that_is_freed_and_followed_at_the_same_time(database: TestDatabase) -> None:
    first = await enqueue(database)
    second = await enqueue(database, after=[first])
    await settle(database.pool)
    third = await enqueue(database, after=[second])
    await end(database.pool, first)

    await settle(database.pool)
    seen = await states(database.pool, second, third)
    await end(database.pool, second)
    await settle(database.pool)

    assert seen == ["available", "suspended"]
    assert await states(database.pool, third) == ["available"]


async def test_a_job_that_waits_is_due_when_it_said(database: TestDatabase) -> None:
    parent = await enqueue(database)
    at = datetime.now(UTC) + timedelta(hours=1)
    late = await enqueue(database, after=[parent], scheduled_at=at)
    past = await enqueue(database, after=[parent], scheduled_at=at - timedelta(days=1))

    await end(database.pool, parent)
    await settle(database.pool)

    assert await states(database.pool, late, past) == ["scheduled", "available"]
    found = await jobs.find(database.pool, late)
    ahead = await jobs.find(database.pool, past)
    assert found is not None
    assert ahead is not None
    assert found.scheduled_at == at
    assert ahead.scheduled_at >= at - timedelta(hours=1, seconds=5)


async def test_a_job_that_somebody_ran_or_cancelled_meanwhile_is_left_alone(
    database: TestDatabase,
) -> None:
    parent = await enqueue(database)
    children = [await enqueue(database, after=[parent]) for _ in range(3)]
    await end(database.pool, children[0], state="executing")
    await end(database.pool, children[1], state="cancelled")
    await database.pool.execute("DELETE FROM oban_jobs WHERE id = $1", children[2])

    await end(database.pool, parent, state="discarded")
    await settle(database.pool)

    assert await states(database.pool, *children) == ["executing", "cancelled", "gone"]
    assert await database.pool.fetchval("SELECT count(*) FROM qj_ended") == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"after": [10**6]}, "after names job 1000000, which does not exist"),
        ({"after": [None]}, "after holds None: give ids of jobs"),
        ({"after": [True]}, "after holds True"),
        ({"after": [2**63]}, "after holds 9223372036854775808"),
        ({"after": "12"}, "after is '12': give a list of ids"),
        ({"even_if": "cancelled"}, "even_if is 'cancelled': choose from"),
        ({"even_if": ["completed"]}, "even_if is ['completed']: choose from"),
        ({"even_if": [["deleted"]]}, "even_if is [['deleted']]: choose from"),
        ({"after": [1], "unique": Unique()}, "give `after` or `unique`"),
        ({"meta": {"qj_followed": True}}, "meta holds qj_followed"),
        ({"meta": {"qj_workflow": {}}}, "meta holds qj_workflow"),
    ],
)
async def test_what_cannot_be_waited_for_is_told(
    database: TestDatabase, options: dict[str, object], told: str
) -> None:
    with pytest.raises(JobInvalid) as error:
        await enqueue(database, **options)

    assert told in str(error.value)
    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 0


async def test_jobs_that_wait_take_part_in_the_transaction_of_the_caller(
    database: TestDatabase,
) -> None:
    parent = await enqueue(database)
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await quarterjack.enqueue(connection, "w", after=[parent])
        await transaction.rollback()

        async with connection.transaction():
            [first] = await enqueue_many(connection, [NewJob(worker="w")])
            [last] = await enqueue_many(
                connection, [NewJob(worker="w", after=[first.id or 0, parent])]
            )
    await end(database.pool, parent, first.id or 0)
    await settle(database.pool)

    assert await states(database.pool, last.id) == ["available"]
    assert await database.pool.fetchval("SELECT count(*) FROM qj_edges") == 2


async def test_edges_of_jobs_that_are_gone_are_pruned(database: TestDatabase) -> None:
    parents = [await enqueue(database) for _ in range(3)]
    children = [await enqueue(database, after=parents) for _ in range(3)]
    pool = database.pool
    await pool.execute(
        "DELETE FROM oban_jobs WHERE id = ANY ($1::bigint[])", [children[0], children[2]]
    )
    await end(pool, children[1], state="executing")

    runs, last = [], 0
    for _ in range(4):
        last, deleted = await flows.prune(pool, beyond=last, limit=4)
        runs.append(deleted)

    assert sum(runs) == 6
    assert max(runs) <= 4
    left = await pool.fetch("SELECT child, parent FROM qj_edges ORDER BY parent")
    assert [tuple(row) for row in left] == [(children[1], parent) for parent in parents]


async def test_an_edge_that_somebody_holds_is_pruned_later(database: TestDatabase) -> None:
    """Whoever settles may hold it, and wait for one that was pruned before it."""
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    pool = database.pool
    await pool.execute("DELETE FROM oban_jobs WHERE id = $1", child)
    async with pool.acquire() as leader, leader.transaction():
        await leader.execute("SELECT FROM qj_edges FOR UPDATE")
        async with asyncio.timeout(5):
            held = await flows.prune(pool, beyond=0, limit=4)

    assert (held, await flows.prune(pool, beyond=0, limit=4)) == ((0, 0), (0, 1))


async def test_a_child_that_the_database_refuses_is_closed_without_it(
    database: TestDatabase,
) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await database.pool.execute("ALTER TABLE oban_jobs ADD CHECK (state <> 'available') NOT VALID")
    await end(database.pool, parent)
    with pytest.raises(asyncpg.CheckViolationError):
        await settle(database.pool)

    done = await settling.settle(database.pool, lines=1, edges=1, decide=False)

    assert done.child == child
    assert await settle(database.pool) == 1
    assert await states(database.pool, child) == ["suspended"]
