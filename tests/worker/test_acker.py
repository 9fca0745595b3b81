"""Outcomes on their way to the database."""

import pytest

from quarterjack import NewJob
from quarterjack.queries import claims
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Want
from tests.worker.holding import Holding

RESCUE = "UPDATE oban_jobs SET state = 'available'"
STORED = "SELECT worker, attempt, state::text FROM oban_jobs ORDER BY id"


async def _held(holding: Holding) -> claims.Claim:
    [(claim, _)] = await claims.held_by(holding.pool, producers=[holding.queue.producer])
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
