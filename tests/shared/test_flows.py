"""Jobs that wait for others: what an insert writes, and what becomes of them when those end."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

import quarterjack
from quarterjack import JobInvalid, NewJob, Unique, Workflow, enqueue_batch, enqueue_many
from quarterjack.queries import flows, jobs, prune, settling, upkeep
from tests.conftest import TestDatabase
from tests.flows import end, settle, states
from tests.waiting import until

ALWAYS = ("cancelled", "discarded", "deleted")
EDGES = "SELECT parent, child, name, outcome FROM qj_edges ORDER BY parent, child"


async def enqueue(database: TestDatabase, **options: object) -> int:
    made = await quarterjack.enqueue(database.pool, "w", **options)  # type: ignore[arg-type]
    assert made.id is not None
    return made.id


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


async def test_every_way_to_end_counts(database: TestDatabase) -> None:
    """An admin's cancel, a deletion of many, a pruner, the rescue of an orphan and one without attempts."""
    by = {name: await enqueue(database) for name in ("admin", "bulk", "pruned", "orphan", "spent")}
    children = {
        name: await enqueue(database, after=[id], even_if=ALWAYS) for name, id in by.items()
    }
    pool = database.pool
    await settle(pool)

    await pool.execute(
        "UPDATE oban_jobs SET state = 'cancelled', cancelled_at = timezone('UTC', now()) WHERE id = $1",
        by["admin"],
    )
    await pool.execute("DELETE FROM oban_jobs WHERE id = $1", by["bulk"])
    await pool.execute(
        """
        UPDATE oban_jobs
        SET state = 'completed', completed_at = timezone('UTC', now()) - interval '1 day'
        WHERE id = $1
        """,
        by["pruned"],
    )
    assert await prune.completed(pool, age=timedelta(hours=1), limit=10) == 1
    await pool.execute(
        """
        UPDATE oban_jobs
        SET state = 'executing', attempt = 1, max_attempts = 1, attempted_by = '{n,u,x}'
        WHERE id = $1
        """,
        by["orphan"],
    )
    assert [job.state for job in await upkeep.rescue(pool, limit=10)] == ["discarded"]
    await pool.execute("UPDATE oban_jobs SET attempt = max_attempts WHERE id = $1", by["spent"])
    assert await upkeep.discard_exhausted(pool) == [by["spent"]]
    await settle(pool)

    edges = await pool.fetch("SELECT parent, outcome FROM qj_edges")
    outcomes = {edge["parent"]: edge["outcome"] for edge in edges}
    assert {name: outcomes[id] for name, id in by.items()} == {
        "admin": "cancelled",
        "bulk": "deleted",
        "pruned": "completed",
        "orphan": "discarded",
        "spent": "discarded",
    }
    assert set(await states(pool, *children.values())) == {"available"}


async def test_a_parent_that_was_retried_before_anybody_looked_is_waited_for(
    database: TestDatabase,
) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await end(database.pool, parent, state="discarded")
    await end(database.pool, parent, state="available")
    await settle(database.pool)

    assert await states(database.pool, child) == ["suspended"]

    await end(database.pool, parent)
    await settle(database.pool)
    await end(database.pool, parent, state="available")
    await end(database.pool, parent, state="cancelled")
    await settle(database.pool)

    assert await states(database.pool, child) == ["available"]


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


async def test_a_workflow_runs_in_the_order_of_its_edges(database: TestDatabase) -> None:
    flow = Workflow("nightly")
    flow.add("report", NewJob(worker="report"), after=["left", "right"])
    flow.add("fetch", NewJob(worker="fetch", meta={"mine": 1}))
    flow.add("left", NewJob(worker="half"), after=["fetch"])
    flow.add("right", NewJob(worker="half"), after=["fetch"])

    ids = await flow.enqueue(database.pool)

    seen = []
    for name in ("fetch", "left", "right", "report"):
        seen.append(await states(database.pool, ids["left"], ids["report"]))
        await end(database.pool, ids[name])
        await settle(database.pool)
    assert seen == [
        ["suspended", "suspended"],
        ["available", "suspended"],
        ["completed", "suspended"],
        ["completed", "available"],
    ]
    rows = await database.pool.fetch("SELECT id, meta FROM oban_jobs")
    meta = {row["id"]: row["meta"] for row in rows}
    [flow_id] = {each["qj_workflow"].pop("id") for each in meta.values()}
    assert len(flow_id) == 32
    assert meta[ids["fetch"]] == {
        "mine": 1,
        "qj_workflow": {"name": "nightly", "job": "fetch", "depth": 0},
        "qj_followed": True,
    }
    assert meta[ids["report"]] == {"qj_workflow": {"name": "nightly", "job": "report", "depth": 2}}
    parents = await flows.parents_of(database.pool, ids["report"], beyond=0, limit=10)
    assert {row["name"] for row in parents} == {"left", "right"}


def looped() -> Workflow:
    flow = Workflow("loop")
    flow.add("start", NewJob(worker="w"))
    flow.add("a", NewJob(worker="w"), after=["start", "c"])
    flow.add("b", NewJob(worker="w"), after=["a"])
    flow.add("c", NewJob(worker="w"), after=["b"])
    return flow


async def test_a_workflow_that_cannot_be_is_refused_before_anything_is_sent(
    database: TestDatabase,
) -> None:
    missing = Workflow("w")
    missing.add("a", NewJob(worker="w"), after=["nowhere"])
    lost = Workflow("w")
    lost.add("a", NewJob(worker="w"))
    lost.add("b", NewJob(worker="w", after=[10**6]), after=["a"])
    for flow, told in (
        (looped(), "in a circle: a, b, c"),
        (Workflow("empty"), "'empty' has no job"),
        (missing, "'nowhere', which is not in the workflow"),
        (lost, "job 1000000, which does not exist"),
    ):
        with pytest.raises(JobInvalid, match=told):
            await flow.enqueue(database.pool)
    with pytest.raises(JobInvalid, match="in the workflow already"):
        missing.add("a", NewJob(worker="w"))
    with pytest.raises(JobInvalid, match="give unique=None"):
        missing.add("b", NewJob(worker="w", unique=Unique()))
    with pytest.raises(JobInvalid, match="give a NewJob"):
        missing.add("b", "w")  # type: ignore[arg-type]
    with pytest.raises(JobInvalid, match="give a list of names"):
        missing.add("b", NewJob(worker="w"), after="a")
    with pytest.raises(JobInvalid, match="give a list of names"):
        missing.add("b", NewJob(worker="w"), after=None)  # type: ignore[arg-type]
    with pytest.raises(JobInvalid, match="1 to 127 characters"):
        Workflow("")

    assert await database.pool.fetchval("SELECT count(*) FROM oban_jobs") == 0


@pytest.mark.parametrize(("even_if", "state"), [((), "cancelled"), (ALWAYS, "available")])
async def test_a_batch_calls_back_when_all_of_it_has_ended(
    database: TestDatabase, even_if: tuple[str, ...], state: str
) -> None:
    batch = await enqueue_batch(
        database.pool,
        [NewJob(worker="part") for _ in range(3)],
        NewJob(worker="whole", even_if=even_if),
    )
    await end(database.pool, *batch.ids[:2])
    await settle(database.pool)
    before = await states(database.pool, batch.callback)

    await end(database.pool, batch.ids[2], state="discarded")
    await settle(database.pool)

    assert before == ["suspended"]
    assert await states(database.pool, batch.callback) == [state]


async def test_a_batch_of_nothing_is_refused(database: TestDatabase) -> None:
    with pytest.raises(JobInvalid, match="the batch has no job"):
        await enqueue_batch(database.pool, [], NewJob(worker="whole"))


async def test_an_end_before_the_first_look_is_seen_then(database: TestDatabase) -> None:
    """Nobody has marked the parents yet, so no trigger notes their ends."""
    ended, pruned = await enqueue(database), await enqueue(database)
    after = await enqueue(database, after=[ended])
    late = await enqueue(database, after=[pruned])
    await end(database.pool, ended, pruned)
    again = await enqueue(database, after=[pruned])
    await database.pool.execute("DELETE FROM oban_jobs WHERE id = $1", pruned)
    await settle(database.pool)

    assert await states(database.pool, after, late, again) == ["available"] * 3


async def test_a_parent_whose_meta_takes_no_mark_is_not_waited_for_in_haste(
    database: TestDatabase,
) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await database.pool.execute("UPDATE oban_jobs SET meta = '[1]' WHERE id = $1", parent)

    assert await settle(database.pool) == 2
    await end(database.pool, parent)
    await settling.mend(database.pool, beyond=0, limit=10)
    await settle(database.pool)

    assert await states(database.pool, child) == ["available"]


async def test_an_end_that_no_trigger_noted_is_found(database: TestDatabase) -> None:
    unmarked, emptied = await enqueue(database), await enqueue(database)
    children = [await enqueue(database, after=[id]) for id in (unmarked, emptied)]
    running = await enqueue(database)
    waiting = await enqueue(database, after=[running])
    pool = database.pool
    await settle(pool)
    await pool.execute("UPDATE oban_jobs SET meta = '{}' WHERE id <> $1", running)
    await end(pool, unmarked)
    await pool.execute("DELETE FROM oban_jobs WHERE id = $1", emptied)
    await pool.execute("TRUNCATE qj_settling, qj_ended")

    last, noted = await settling.mend(pool, beyond=0, limit=2)
    again = await settling.mend(pool, beyond=last, limit=2)
    await settle(pool)

    assert (last, noted, again) == (emptied, 2, (running, 0))
    assert await settling.mend(pool, beyond=running, limit=2) == (0, 0)
    assert await states(pool, *children, waiting) == ["available", "cancelled", "suspended"]


async def test_edges_of_jobs_that_are_gone_are_pruned(database: TestDatabase) -> None:
    parents = [await enqueue(database) for _ in range(3)]
    children = [await enqueue(database, after=parents) for _ in range(3)]
    pool = database.pool
    await pool.execute(
        "DELETE FROM oban_jobs WHERE id = ANY ($1::bigint[])", [children[0], children[2]]
    )

    runs, last = [], 0
    for _ in range(4):
        last, deleted = await flows.prune(pool, beyond=last, limit=4)
        runs.append(deleted)

    assert sum(runs) == 6
    assert max(runs) <= 4
    left = await pool.fetch("SELECT child, parent FROM qj_edges ORDER BY parent")
    assert [tuple(row) for row in left] == [(children[1], parent) for parent in parents]


async def test_foreign_programs_without_rights_of_ours_end_jobs(database: TestDatabase) -> None:
    parent = await enqueue(database)
    child = await enqueue(database, after=[parent])
    await settle(database.pool)
    async with database.pool.acquire() as connection:
        try:
            await connection.execute(
                """
                CREATE ROLE stranger;
                GRANT SELECT, UPDATE ON oban_jobs TO stranger;
                SET ROLE stranger;
                CREATE TEMP TABLE qj_ended (job_id bigint, outcome text)
                """
            )
            await end(connection, parent)
        finally:
            await connection.execute("RESET ROLE; DROP OWNED BY stranger; DROP ROLE stranger")
    await settle(database.pool)

    assert await states(database.pool, child) == ["available"]


async def test_an_end_rings_the_leader(database: TestDatabase) -> None:
    parent = await enqueue(database)
    await enqueue(database, after=[parent])
    await settle(database.pool)
    async with database.pool.acquire() as connection:
        heard: list[object] = []

        def heard_one(*notification: object) -> None:
            heard.append(notification[3])

        await connection.add_listener("public.qj_ended", heard_one)
        await end(database.pool, parent)
        await until(lambda: connection.fetchval("SELECT $1::integer > 0", len(heard)))
        await connection.remove_listener("public.qj_ended", heard_one)
    assert heard == ["{}"]


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
