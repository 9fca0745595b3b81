"""Handlers whose jobs wait for others: what they learn of these, and what they have follow."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import quarterjack
from quarterjack import NewJob, Workflow, enqueue_batch
from quarterjack.database import Pool
from quarterjack.queries import jobs
from quarterjack_worker import Context, Discard, Snooze, job, middleware, new_job
from quarterjack_worker.handlers.middleware import MIDDLEWARE, Next
from quarterjack_worker.testing import drain, perform, perform_job
from tests.conftest import TestDatabase
from tests.flows import states
from tests.processes import cluster
from tests.waiting import until

ENDS = ("cancelled", "discarded", "deleted")


@dataclass(frozen=True)
class Part:
    n: int = 0


@job("square", recorded=True)
async def square(args: Part) -> object:
    """Give the square of a number, or nothing for a negative one."""
    return Discard("negative") if args.n < 0 else args.n**2


@job("total", recorded=True)
async def total(args: dict[str, Any], context: Context) -> object:
    """Add up what the parents gave."""
    return sum([parent.result async for parent in context.parents() if parent.result is not None])


@job("total_in_thread", recorded=True)
def total_in_thread(args: dict[str, Any], context: Context) -> object:
    """Add up what the parents gave, and ask the database something else."""
    assert context.run(context.pool.fetchval("SELECT 1")) == 1
    return sum(parent.result for parent in context.parents())


@job("total_in_process", recorded=True, process=True)
def total_in_process(args: dict[str, Any], context: Context) -> object:
    """Add up what the parents gave."""
    return sum(parent.result for parent in context.parents())


@job("total_on_a_loop_in_process", recorded=True, process=True)
async def total_on_a_loop_in_process(args: dict[str, Any], context: Context) -> object:
    """Add up what the parents gave, and what two threads ask for at the same time."""
    asked = [asyncio.to_thread(lambda: list(context.parents())) for _ in range(2)]
    pages = await asyncio.gather(*asked)
    return sum([p.result async for p in context.parents()]) + sum(map(len, pages))


@job("tell_parents", recorded=True)
async def tell(args: dict[str, Any], context: Context) -> object:
    """Give all that is known of the parents."""
    return [[p.id, p.name, p.outcome, p.result] async for p in context.parents()]


@job("run_on_the_loop", max_attempts=1)
async def run_on_the_loop(args: dict[str, Any], context: Context) -> None:
    """Wait for the loop on the loop."""
    context.run(asyncio.sleep(0))


@job("follow", recorded=True)
async def follow(args: Part, context: Context) -> int:
    """Have a job follow this one and another, by its completion."""
    context.enqueue(tell, after=[context.job.id, args.n], even_if=ENDS)
    return 7


@job("follow_in_transaction")
async def follow_in_transaction(args: Part, context: Context) -> None:
    """Have a workflow follow this job."""
    flow = Workflow("later")
    flow.add("first", new_job(square, Part(3)))
    flow.add("second", new_job(total), after=["first"])
    async with context.transaction() as connection:
        await flow.enqueue(connection)


async def result(pool: Pool, id: int) -> Any:
    found = await jobs.find(pool, id)
    assert found is not None
    return found.meta.get("result")


async def test_a_workflow_is_run_by_the_testing_kit(quarterjack_pool: Pool) -> None:
    flow = Workflow("squares")
    for n in range(3):
        flow.add(f"part {n}", new_job(square, Part(n)))
    flow.add("total", new_job(total), after=["part 1", "part 2"])
    flow.add("in thread", new_job(total_in_thread), after=["part 0", "total"])
    flow.add("told", new_job(tell), after=["in thread"])

    ids = await flow.enqueue(quarterjack_pool)
    ran = await drain(quarterjack_pool)

    assert [each.state for each in ran] == ["completed"] * 6
    assert await result(quarterjack_pool, ids["total"]) == 5
    assert await result(quarterjack_pool, ids["told"]) == [
        [ids["in thread"], "in thread", "completed", 5]
    ]


async def test_a_callback_learns_of_all_in_pages(quarterjack_pool: Pool) -> None:
    parts = [new_job(square, Part(n - 1)) for n in range(1_101)]
    batch = await enqueue_batch(quarterjack_pool, parts, new_job(total, even_if=ENDS))

    await drain(quarterjack_pool, limit=1_200)

    assert await result(quarterjack_pool, batch.callback) == sum(n**2 for n in range(1_100))


async def test_a_process_asks_for_its_parents_page_by_page(quarterjack_pool: Pool) -> None:
    parts = [new_job(square, Part(n)) for n in range(501)]
    batch = await enqueue_batch(quarterjack_pool, parts, new_job(total_in_process))
    parts = [new_job(square, Part(n)) for n in range(3)]
    other = await enqueue_batch(quarterjack_pool, parts, new_job(total_on_a_loop_in_process))

    await drain(quarterjack_pool)

    assert await result(quarterjack_pool, batch.callback) == sum(n**2 for n in range(501))
    assert await result(quarterjack_pool, other.callback) == 5 + 2 * 3


async def test_a_process_hears_why_its_parents_cannot_be_read(quarterjack_pool: Pool) -> None:
    await quarterjack_pool.execute("ALTER TABLE qj_edges RENAME TO elsewhere")
    id = (await quarterjack.enqueue(quarterjack_pool, "total_in_process", max_attempts=1)).id
    assert id is not None

    done = await perform_job(quarterjack_pool, id)

    assert "the parents could not be read: UndefinedTableError" in done.errors[0]["error"]


async def test_a_handler_on_the_loop_cannot_wait_for_it(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, "run_on_the_loop")

    assert "RuntimeError: only a def in a thread" in done.errors[0]["error"]


async def test_middleware_around_a_thread_cannot_wait_for_the_loop(quarterjack_pool: Pool) -> None:
    told = []

    @middleware
    async def impatient(context: Context, next: Next) -> object:
        given = await next()
        try:
            context.run(asyncio.sleep(0))
        except RuntimeError as error:
            told.append(str(error))
        return given

    try:
        await perform(quarterjack_pool, "total_in_thread")
    finally:
        MIDDLEWARE.remove(impatient)

    assert "await it in an async def" in told[0]


async def test_a_thread_that_awaits_stops_when_its_time_is_up(quarterjack_pool: Pool) -> None:
    ended = threading.Event()

    @job("awaits_for_ever", timeout=timedelta(seconds=0.2), max_attempts=1)
    def awaits_for_ever(args: dict[str, Any], context: Context) -> None:
        try:
            context.run(asyncio.Event().wait())
        finally:
            ended.set()

    done = await perform(quarterjack_pool, "awaits_for_ever")

    assert ended.is_set()
    assert "TimeoutError: it ran longer" in done.errors[0]["error"]


async def test_a_job_may_follow_the_one_that_makes_it(quarterjack_pool: Pool) -> None:
    other = await quarterjack.enqueue(quarterjack_pool, "square", {"n": 2}, queue="elsewhere")
    made = await quarterjack.enqueue(quarterjack_pool, "follow", {"n": other.id})
    await drain(quarterjack_pool)
    [child] = await quarterjack_pool.fetch("SELECT id FROM oban_jobs WHERE worker = 'tell_parents'")
    before = await states(quarterjack_pool, child["id"])

    await drain(quarterjack_pool, "elsewhere")
    await drain(quarterjack_pool)

    assert before == ["suspended"]
    assert await result(quarterjack_pool, child["id"]) == [
        [other.id, None, "completed", 4],
        [made.id, None, "completed", 7],
    ]


async def test_a_parent_that_is_gone_by_then_counts_as_deleted(quarterjack_pool: Pool) -> None:
    """The work is done, and nobody can be told any more that what it asks for cannot be."""
    made = await quarterjack.enqueue(quarterjack_pool, "follow", {"n": 10**9})

    [parent, child] = await drain(quarterjack_pool)

    assert (parent.id, parent.state) == (made.id, "completed")
    assert child.meta["result"] == [
        [made.id, None, "completed", 7],
        [10**9, None, "deleted", None],
    ]


async def test_a_workflow_commits_with_the_completion(quarterjack_pool: Pool) -> None:
    await quarterjack.enqueue(quarterjack_pool, "follow_in_transaction", {})

    ran = await drain(quarterjack_pool)

    assert [each.worker for each in ran] == ["follow_in_transaction", "square", "total"]
    assert ran[-1].meta["result"] == 9


async def test_a_snoozed_job_is_still_waited_for(quarterjack_pool: Pool) -> None:
    @job("not_yet")
    async def not_yet() -> Snooze:
        return Snooze(timedelta(hours=1))

    batch = await enqueue_batch(quarterjack_pool, [NewJob(worker="not_yet")], new_job(total))

    await drain(quarterjack_pool)

    assert await states(quarterjack_pool, *batch.ids, batch.callback) == ["scheduled", "suspended"]


async def test_workers_and_a_leader_run_a_workflow(database: TestDatabase) -> None:
    flow = Workflow("real")
    flow.add("first", NewJob(worker="square", args={"n": 4}))
    flow.add("second", NewJob(worker="total"), after=["first"])
    flow.add("third", NewJob(worker="total_in_thread"), after=["second", "first"])
    async with cluster(database) as running:
        await running.scheduler()
        await running.worker(import_=__name__)
        await until(
            lambda: database.pool.fetchval(
                "SELECT EXISTS (SELECT FROM qj_lease WHERE holder IS NOT NULL)"
                " AND EXISTS (SELECT FROM qj_producers)"
            )
        )
        ids = await flow.enqueue(database.pool)

        await until(lambda: _completed(database, ids["third"]))

    assert await result(database.pool, ids["third"]) == 32


async def _completed(database: TestDatabase, id: int) -> bool:
    return await states(database.pool, id) == ["completed"]
