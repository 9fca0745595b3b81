"""A process without its loops, and jobs for it."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import quarterjack
from quarterjack import Job, NewJob
from quarterjack.queries import claims
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Want
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.attempts import Attempts
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.processes import Processes
from quarterjack_worker.handlers.registry import REGISTRY, job
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.lost_claims import LostClaims
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queue, Queues
from tests.conftest import TestDatabase
from tests.waiting import until

STATES = "SELECT state::text, count(*)::integer FROM oban_jobs GROUP BY 1"
ran: list[int] = []
running: list[int] = []
freed = threading.Event()


@job("noted")
async def noted(args: dict[str, Any]) -> None:
    """Note that it ran."""
    ran.append(args["n"])


@job("counted")
async def counted() -> None:
    """Note how many run at once."""
    running.append(1)
    await asyncio.sleep(0)
    ran.append(len(running))
    running.pop()


@job("completing")
async def completing(context: Context) -> None:
    """Complete in a transaction of its own."""
    async with context.transaction():
        pass


@job("endless")
async def endless() -> None:
    """Run until it is cancelled."""
    ran.append(0)
    await asyncio.Event().wait()


@job("deaf")
def deaf() -> None:
    """Hold a thread until the test frees it."""
    ran.append(0)
    freed.wait(30)


class Holding:
    """A process with one queue, without the loops that claim and ack by themselves."""

    def __init__(self, database: TestDatabase, queues: Queues, threads: ThreadPoolExecutor) -> None:
        pool, telemetry = database.pool, Telemetry("worker", "n")
        runner = Runner(
            REGISTRY,
            [],
            pool=pool,
            told=lambda *_: None,
            threads=threads,
            processes=Processes(REGISTRY, 1),
        )
        self.pool = pool
        self.queue = queues["default"]
        self.relieved: list[Queue] = []
        self.unanswered: set[str] = set()
        self.acker = Acker(pool, telemetry)
        self.attempts = Attempts(
            pool,
            queues,
            runner,
            acker=self.acker,
            telemetry=telemetry,
            web=ObanWeb("n", queues),
            ended=lambda queue: None,
            relieved=self.relieved.append,
        )
        self.lost = LostClaims(pool, queues, self.attempts, self.acker, self.unanswered)

    async def claim(self, many: int, worker: str = "noted") -> Sequence[Job]:
        await quarterjack.enqueue_many(
            self.pool, [NewJob(worker=worker, args={"n": n}) for n in range(many)]
        )
        want = Want(queue="default", producer=self.queue.producer, demand=many)
        return await claims.claim(self.pool, wants=[want], node="n", nonce="x")

    async def all_ended(self) -> None:
        await until(self._idle)
        await self.acker.flush()

    async def _idle(self) -> bool:
        return not self.attempts

    async def states(self) -> dict[str, int]:
        return {row["state"]: row["count"] for row in await self.pool.fetch(STATES)}


async def run(holding: Holding, many: int) -> bool:
    return holding.queue.running == many


async def has(found: Sequence[object], many: int) -> bool:
    return len(found) >= many


async def acked(holding: Holding, job: Job) -> bool:
    return claims.Claim(job.id, job.attempted_by[2]) in holding.acker


def completed(holding: Holding, job: Job) -> Ack:
    return Ack(claim=claims.Claim(job.id, job.attempted_by[2]), state="completed")


async def are(holding: Holding, states: dict[str, int]) -> bool:
    return await holding.states() == states
