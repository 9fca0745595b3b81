"""The leader's other loops: stage jobs at their instant, rescue orphans, prune what is old.

None of them needs the fence: each statement names the state it leaves and skips locked rows, so that two
replicas at it at once, or Oban's own plugins beside them, do no harm.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from quarterjack.database import LOST, Connection, Pool, ask
from quarterjack.queries import deliveries, jobs, lease, prune, traces, upkeep
from quarterjack_scheduler.clock import boot
from quarterjack_scheduler.election import Election
from quarterjack_scheduler.retention import Retention

log = logging.getLogger(__name__)

ANSWER_WITHIN = 30.0
RETRY = 0.2
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
    pool: Pool,
    election: Election,
    work: Callable[[Connection], Coroutine[Any, Any, float]],
    what: str,
    *,
    woken: asyncio.Event | None = None,
) -> None:
    """Do the work while this replica leads, each time after the pause in seconds that it asked for.

    `woken`, once set, cuts a pause short.
    """
    woken = woken or asyncio.Event()
    reachable = True
    while True:
        pause = RETRY
        woken.clear()
        if election.term is not None:
            try:
                pause = await ask(pool, work, ANSWER_WITHIN)
                reachable = True
            except LOST as error:
                if reachable:
                    log.warning("could not %s: %s; trying again", what, error)
                reachable = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await woken.wait()


async def stage(db: Connection) -> float:
    """Make scheduled and retryable jobs available; seconds to the next one's instant, at most a second."""
    staged = await upkeep.stage(db, limit=STAGE_LIMIT)
    if staged:
        log.debug("staged %d jobs", len(staged))
        await jobs.ring(db, sorted(set(staged)))
    if len(staged) == STAGE_LIMIT:
        return 0.0
    wait = await upkeep.next_due_in(db)
    return STAGE_EVERY if wait is None else min(STAGE_EVERY, max(0.001, wait.total_seconds()))


class Rescuer:
    """Gives the jobs of workers that are gone to others.

    After an outage of the database every heartbeat is old, and nobody is dead for that: nobody is condemned
    before this replica has seen the database answer for longer than the patience with workers; and when many
    workers fall silent together, only in the second sweep that finds them so.
    """

    def __init__(self) -> None:
        self._steady_since: float | None = None
        self._swept_at = 0.0
        self._suspects: frozenset[object] = frozenset()

    async def sweep(self, db: Connection) -> float:
        began = boot()
        if began - self._swept_at > 3 * SWEEP_EVERY:
            self._steady_since = None
        try:
            await self._condemn(db, began)
            rescued = await upkeep.rescue(db, limit=RESCUE_LIMIT)
        except LOST:
            self._steady_since = None
            raise
        self._swept_at = boot()
        for job in rescued:
            log.warning("rescued job %s of %s: now %s", job.id, job.node, job.state)
        if rescued:
            await jobs.ring(db, sorted({job.queue for job in rescued}))
        return 0.0 if len(rescued) == RESCUE_LIMIT else SWEEP_EVERY

    async def _condemn(self, db: Connection, began: float) -> None:
        silent = await upkeep.silent_producers(db, patience=PATIENCE)
        if self._steady_since is None:
            self._steady_since = began
        if not silent or began - self._steady_since < STEADY:
            return
        found = frozenset(producer.uuid for producer in silent)
        nodes = {producer.node for producer in silent}
        many = len(nodes) > max(FEW, MASS * await upkeep.live_nodes(db))
        suspects, self._suspects = self._suspects, found
        condemned = [p for p in silent if not many or p.uuid in suspects]
        for producer in condemned:
            log.warning(
                "worker %s, queue %s, is gone: silent for %.1f s",
                producer.node,
                producer.queue,
                producer.silence.total_seconds(),
            )
        await upkeep.condemn(db, uuids=[producer.uuid for producer in condemned], patience=PATIENCE)


class Pruner:
    """Deletes ended jobs, old ledger lines and rows of processes that are gone, in small batches."""

    def __init__(self, retention: Retention, *, own_traces: bool) -> None:
        self._keep = retention
        self._own_traces = own_traces

    async def prune(self, db: Connection) -> float:
        keep = self._keep
        for id in await upkeep.discard_exhausted(db):
            log.warning("discarded job %s, which had no attempt left", id)
        deleted = [
            await prune.completed(db, age=keep.completed.age, limit=PRUNE_LIMIT),
            await prune.cancelled(db, age=keep.cancelled.age, limit=PRUNE_LIMIT),
            await prune.discarded(db, age=keep.discarded.age, limit=PRUNE_LIMIT),
            await self._beyond(db, "completed", keep.completed.count),
            await self._beyond(db, "cancelled", keep.cancelled.count),
            await self._beyond(db, "discarded", keep.discarded.count),
        ]
        ledger = await prune.ledger(db, age=LEDGER_AGE, limit=PRUNE_LIMIT)
        if sum(deleted) or ledger:
            log.info("pruned %d jobs and %d ledger lines", sum(deleted), ledger)
        await lease.forget_silent_peers(db)
        await upkeep.forget_dead_producers(db)
        await deliveries.prune(db, age=LEDGER_AGE)
        if self._own_traces:
            await traces.prune(db)
        return 0.1 if PRUNE_LIMIT in (*deleted, ledger) else PRUNE_EVERY

    async def _beyond(self, db: Connection, state: str, count: int) -> int:
        return await prune.beyond(db, state=state, keep=count, limit=PRUNE_LIMIT)
