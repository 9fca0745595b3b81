"""Outcomes on their way to the database."""

import asyncio

import pytest

from quarterjack import NewJob, Unique, enqueue
from quarterjack.queries import claims
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Want
from tests.waiting import until
from tests.worker.holding import Holding, are, completed

RESCUE = (
    "UPDATE oban_jobs SET state = 'available', scheduled_at = timezone('UTC', clock_timestamp())"
)
STORED = "SELECT worker, attempt, state::text FROM oban_jobs ORDER BY id"


async def _held(holding: Holding) -> claims.Claim:
    [claim] = await claims.held_by(holding.pool, producers=[holding.queue.producer])
    return claim


@pytest.mark.parametrize("last", [0, 1])
async def test_of_two_claims_of_a_job_that_end_at_once_the_later_counts(
    holding: Holding, last: int
) -> None:
    """As when another program rescues a running job, and its worker claims it again."""
    await holding.claim(1)
    first = await _held(holding)
    await holding.pool.execute(RESCUE)
    want = Want(queue="default", producer=holding.queue.producer, demand=1)
    await claims.claim(holding.pool, wants=[want], node="n", nonce="y")
    outcomes = [(first, "child of the first"), (await _held(holding), "child of the second")]

    for claim, child in (outcomes[1 - last], outcomes[last]):
        ack = Ack(claim=claim, state="completed")
        holding.acker.add(ack, children=[NewJob(worker=child, queue="elsewhere")])
    await holding.acker.flush()

    assert [tuple(row) for row in await holding.pool.fetch(STORED)] == [
        ("noted", 2, "completed"),
        ("child of the second", 0, "available"),
    ]
    assert holding.acker.fenced == 1


async def test_an_outcome_that_a_transaction_holds_up_keeps_no_others_waiting(
    holding: Holding,
) -> None:
    jobs = await holding.claim(9)
    for job in jobs:
        holding.acker.add(completed(holding, job))
    async with holding.pool.acquire() as other, other.transaction():
        await other.execute(
            "SELECT FROM oban_jobs WHERE id = ANY ($1) FOR UPDATE", [jobs[0].id, jobs[5].id]
        )
        writing = asyncio.create_task(holding.acker.flush())
        await until(lambda: are(holding, {"completed": 7, "executing": 2}))
        [more] = await holding.claim(1)
        holding.acker.add(completed(holding, more))
        await until(lambda: are(holding, {"completed": 8, "executing": 2}))

    await writing

    assert await holding.states() == {"completed": 10}


async def test_an_outcome_that_cannot_be_stored_spoils_no_other(holding: Holding) -> None:
    told = [{"result": "good"}, {"result": "\0"}, {"result": "good"}]
    for job, meta in zip(await holding.claim(3), told, strict=True):
        claim = completed(holding, job).claim
        holding.acker.add(Ack(claim=claim, state="completed", meta=meta))

    await holding.acker.flush()

    rows = await holding.pool.fetch("SELECT state::text, meta ->> 'result' FROM oban_jobs")
    assert sorted(map(tuple, rows)) == [
        ("completed", "good"),
        ("completed", "good"),
        ("discarded", None),
    ]


async def test_what_is_remembered_is_all_that_there_was(holding: Holding) -> None:
    """What else came with a completion could not be written again with it."""
    plain, told, bore = [completed(holding, job) for job in await holding.claim(3)]
    told.meta["result"] = "good"
    holding.acker.add(plain)
    holding.acker.add(told)
    holding.acker.add(bore, children=[NewJob(worker="child", queue="elsewhere")])

    await holding.acker.flush()

    assert list(holding.acker) == [plain.claim]


async def test_what_is_remembered_of_completions_does_not_grow(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack_worker.acker.REMEMBERED", 2)
    jobs = await holding.claim(3)
    for job in jobs:
        holding.acker.add(completed(holding, job))

    await holding.acker.flush()

    assert list(holding.acker) == [completed(holding, job).claim for job in jobs[1:]]


async def test_what_is_held_up_is_tried_in_turn_with_others(holding: Holding) -> None:
    """Else a steady load would keep it from ever being tried, or it would keep them."""
    held, *others = [completed(holding, job) for job in await holding.claim(3)]
    for ack in (held, *others):
        holding.acker.add(ack)
    holding.acker._set_apart(held.claim)

    assert [holding.acker._next(10) for _ in range(4)] == [[held], others] * 2


async def test_of_those_that_are_held_up_the_last_one_tried_is_tried_last(holding: Holding) -> None:
    """Else one that stays held would keep the others waiting."""
    first, second = [completed(holding, job) for job in await holding.claim(2)]
    for ack in (first, second):
        holding.acker.add(ack)
        holding.acker._set_apart(ack.claim)

    assert holding.acker._next(10) == [first]
    holding.acker._set_apart(first.claim)
    assert holding.acker._next(10) == [second]


async def test_nothing_is_kept_of_what_is_written(holding: Holding) -> None:
    """A child that stayed would make every later batch a transaction, and the mark that some wait a busy loop."""
    acker = holding.acker
    bore, held = [completed(holding, job) for job in await holding.claim(2)]
    acker.add(bore, children=[NewJob(worker="child", queue="elsewhere")])
    acker.add(held, written=lambda: None)
    acker._set_apart(held.claim)

    await acker.flush()

    assert [acker._pending, acker._children, acker._called, acker._stuck] == [{}] * 4
    assert not acker._added.is_set()


async def test_an_outcome_takes_the_children_of_the_one_it_replaces_away(holding: Holding) -> None:
    """They come with a completion, and may be why it cannot be stored."""
    [ack] = [completed(holding, job) for job in await holding.claim(1)]
    holding.acker.add(ack, children=[NewJob(worker="child", queue="elsewhere")])
    holding.acker.add(Ack(claim=ack.claim, state="discarded", error="no"))

    await holding.acker.flush()

    assert await holding.states() == {"discarded": 1}


async def test_a_child_of_a_job_that_is_gone_by_then_keeps_no_completion_from_being_stored(
    holding: Holding,
) -> None:
    [ack] = [completed(holding, job) for job in await holding.claim(1)]
    child = NewJob(worker="child", queue="elsewhere", after=[10**9], even_if=["deleted"])
    holding.acker.add(ack, children=[child])

    await holding.acker.flush()

    assert await holding.states() == {"completed": 1, "suspended": 1}


async def test_a_child_whose_key_is_not_committed_yet_holds_up_its_parent_alone(
    holding: Holding,
) -> None:
    first, second = await holding.claim(2)
    unique = Unique(period=None)
    child = NewJob(worker="child", queue="elsewhere", unique=unique)
    holding.acker.add(completed(holding, first), children=[child])
    holding.acker.add(completed(holding, second))
    async with holding.pool.acquire() as other, other.transaction():
        made = await enqueue(other, "child", queue="elsewhere", unique=unique)
        writing = asyncio.create_task(holding.acker.flush())
        await until(lambda: are(holding, {"completed": 1, "executing": 1}))

    await writing

    assert await holding.states() == {"completed": 2, "available": 1}
    assert await holding.pool.fetchval("SELECT id FROM oban_jobs WHERE worker = 'child'") == made.id
