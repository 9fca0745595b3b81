"""The leader's other loops: stage jobs at their instant, rescue orphans, prune what is old.

None of them needs the fence: each statement names the state it leaves and skips locked rows, so that two
replicas at it at once, or Oban's own plugins beside them, do no harm.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from quarterjack.database import LOST, Pool
from quarterjack.queries import jobs, lease, prune, traces, upkeep
from quarterjack_scheduler.clock import boot
from quarterjack_scheduler.election import Election
from quarterjack_scheduler.retention import Retention

log = logging.getLogger(__name__)

STAGE_EVERY = 1.0
STAGE_LIMIT = 5_000
SWEEP_EVERY = 1.0
RESCUE_LIMIT = 500
PATIENCE = timedelta(seconds=5)
STEADY = PATIENCE.total_seconds() + 1.0
FEW = 2
MASS = 0.3
PRUNE_EVERY = 30.0
PRUNE_LIMIT = 5_000
LEDGER_AGE = timedelta(days=35)


async def repeat(
    work: Callable[[], Awaitable[float]], election: Election, what: str, retry: float = 1.0
) -> None:
    """Do the work while this replica leads, each time after the pause in seconds that it asked for."""
    reachable = True
    while True:
        pause = retry
        if election.term is not None:
            try:
                pause = await work()
                reachable = True
            except LOST as error:
                if reachable:
                    log.warning("could not %s: %s; trying again", what, error)
                reachable = False
        await asyncio.sleep(pause)


class Stager:
    """Makes scheduled and retryable jobs available when they are due, to the millisecond."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stage(self) -> float:
        staged = await upkeep.stage(self._pool, limit=STAGE_LIMIT)
        if staged:
            log.debug("staged %d jobs", len(staged))
            await jobs.ring(self._pool, sorted(set(staged)))
        if len(staged) == STAGE_LIMIT:
            return 0.0
        wait = await upkeep.next_due_in(self._pool)
        return STAGE_EVERY if wait is None else min(STAGE_EVERY, max(0.001, wait.total_seconds()))


class Rescuer:
    """Gives the jobs of workers that are gone to others.

    After an outage of the database every heartbeat is old, and nobody is dead for that: nobody is condemned
    before this replica has seen the database answer for longer than the patience with workers; and when many
    workers fall silent together, only in the second sweep that finds them so.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._steady_since: float | None = None
        self._swept_at = 0.0
        self._suspects: frozenset[object] = frozenset()

    async def sweep(self) -> float:
        began = boot()
        if began - self._swept_at > 3 * SWEEP_EVERY:
            self._steady_since = None
        try:
            await self._condemn(began)
            rescued = await upkeep.rescue(self._pool, limit=RESCUE_LIMIT)
        except LOST:
            self._steady_since = None
            raise
        self._swept_at = boot()
        for job in rescued:
            log.warning("rescued job %s of %s: now %s", job.id, job.node, job.state)
        if rescued:
            await jobs.ring(self._pool, sorted({job.queue for job in rescued}))
        return 0.0 if len(rescued) == RESCUE_LIMIT else SWEEP_EVERY

    async def _condemn(self, began: float) -> None:
        silent = await upkeep.silent_producers(self._pool, patience=PATIENCE)
        if self._steady_since is None:
            self._steady_since = began
        if not silent or began - self._steady_since < STEADY:
            return
        found = frozenset(producer.uuid for producer in silent)
        nodes = {producer.node for producer in silent}
        many = len(nodes) > max(FEW, MASS * await upkeep.live_nodes(self._pool))
        suspects, self._suspects = self._suspects, found
        condemned = [p for p in silent if not many or p.uuid in suspects]
        for producer in condemned:
            log.warning(
                "worker %s, queue %s, is gone: silent for %.1f s",
                producer.node,
                producer.queue,
                producer.silence.total_seconds(),
            )
        await upkeep.condemn(
            self._pool, uuids=[producer.uuid for producer in condemned], patience=PATIENCE
        )


class Pruner:
    """Deletes ended jobs, old ledger lines and rows of processes that are gone, in small batches."""

    def __init__(self, pool: Pool, retention: Retention, *, own_traces: bool) -> None:
        self._pool = pool
        self._keep = retention
        self._own_traces = own_traces

    async def prune(self) -> float:
        pool, keep = self._pool, self._keep
        for id in await upkeep.discard_exhausted(pool):
            log.warning("discarded job %s, which had no attempt left", id)
        deleted = [
            await prune.completed(pool, age=keep.completed.age, limit=PRUNE_LIMIT),
            await prune.cancelled(pool, age=keep.cancelled.age, limit=PRUNE_LIMIT),
            await prune.discarded(pool, age=keep.discarded.age, limit=PRUNE_LIMIT),
            await self._beyond("completed", keep.completed.count),
            await self._beyond("cancelled", keep.cancelled.count),
            await self._beyond("discarded", keep.discarded.count),
        ]
        ledger = await prune.ledger(pool, age=LEDGER_AGE, limit=PRUNE_LIMIT)
        if sum(deleted) or ledger:
            log.info("pruned %d jobs and %d ledger lines", sum(deleted), ledger)
        await lease.forget_silent_peers(pool)
        await upkeep.forget_dead_producers(pool)
        if self._own_traces:
            await traces.prune(pool)
        return 0.1 if PRUNE_LIMIT in (*deleted, ledger) else PRUNE_EVERY

    async def _beyond(self, state: str, count: int) -> int:
        return await prune.beyond(self._pool, state=state, keep=count, limit=PRUNE_LIMIT)
