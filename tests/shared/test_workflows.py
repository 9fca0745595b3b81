"""Workflows and batches: jobs that are enqueued together, and run in an order."""

import pytest

from quarterjack import JobInvalid, NewJob, Unique, Workflow, enqueue_batch
from quarterjack.queries import flows
from tests.conftest import TestDatabase
from tests.flows import ALWAYS, end, settle, states


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
