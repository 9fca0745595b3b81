"""The leader's other loops: stage jobs at their instant, rescue orphans, prune what is old.

None of them needs the fence: each statement names the state it leaves and skips locked rows, so that two
replicas at it at once, or Oban's own plugins beside them, do no harm.
"""

import logging
import math
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import asyncpg

from quarterjack.asking import ask
from quarterjack.clock import boot
from quarterjack.database import LOST, Connection, Pool
from quarterjack.queries import (
    deliveries,
    flows,
    jobs,
    journals,
    lease,
    limits,
    prune,
    settling,
    traces,
    upkeep,
)
from quarterjack_scheduler.election import Election
from quarterjack_scheduler.retention import Retention
from quarterjack_scheduler.turns import Turn, soon

log = logging.getLogger(__name__)

ANSWER_WITHIN = 30.0
RETRY, LONGEST_RETRY = 0.2, 5.0
STAGE_LIMIT = 5_000
SWEEP_EVERY = 1.0
RESCUE_LIMIT = 500
PATIENCE = timedelta(seconds=5)
STEADY = PATIENCE.total_seconds() + 1.0
UNSTEADY, STEP = 3.0, 2.0
FEW = 2
MASS = 0.3
PRUNE_EVERY = 30.0
COUNT_EVERY = 600.0
PRUNE_LIMIT = 5_000
LEDGER_AGE = timedelta(days=35)
JOURNAL_AGE = timedelta(days=7)


async def repeat(
    pool: Pool,
    election: Election,
    work: Callable[[Connection], Coroutine[Any, Any, float | None]],
    what: str,
    *,
    turn: Turn | None = None,
    patience: float = ANSWER_WITHIN,
) -> None:
    """Do the work while this replica leads, each time after the pause in seconds that it asked for.

    Work that asks for none waits until its `turn` is told of something to do. What fails is tried ever more rarely.
    """
    turn = turn or Turn()
    reachable, delay = True, RETRY
    while True:
        pause: float | None = RETRY
        turn.take()
        if election.term is not None:
            try:
                pause = await ask(pool, work, patience)
                reachable, delay = True, RETRY
            except LOST as error:
                if reachable:
                    log.warning("could not %s: %s; trying again", what, error)
                reachable, pause, delay = False, delay, min(delay * 2, LONGEST_RETRY)
        await turn.wait(pause)


async def stage(db: Connection) -> float | None:
    """Make scheduled and retryable jobs available; seconds to the next one's instant, None if that is far."""
    staged = await upkeep.stage(db, limit=STAGE_LIMIT)
    if staged:
        log.debug("staged %d jobs", len(staged))
        await jobs.ring(db, sorted(set(staged)))
    if len(staged) == STAGE_LIMIT:
        return 0.0
    wait = await upkeep.next_due_in(db)
    pause = soon(None if wait is None else wait.total_seconds())
    return RETRY if pause == 0 and not staged else pause


class Rescuer:
    """Gives the jobs of workers that are gone to others.

    After an outage of the database every heartbeat is old, and nobody is dead for that: nobody is condemned
    before this replica has seen the database answer for longer than the patience with workers; and when many
    workers fall silent together, only in the second sweep that finds them so. A step of the database's clock makes
    heartbeats old as well, and counts as an outage.
    """

    def __init__(self) -> None:
        self._steady_since = math.inf
        self._answered_at = -math.inf
        self._offset: float | None = None
        self._swept_at = 0.0
        self._suspects: frozenset[object] = frozenset()

    def saw(self, *, orphaned: bool, offset: float | None = None) -> timedelta | None:
        """Note that the database has answered; the wait until the next sweep if there is anything to rescue.

        `offset` is what its clock is ahead of `boot`.
        """
        now = self._hear(offset)
        self._offset = offset
        return timedelta(seconds=max(0.0, self._swept_at + SWEEP_EVERY - now)) if orphaned else None

    def _hear(self, offset: float | None = None) -> float:
        """Take an answer of the database: it is steady anew after a silence, or a step of its clock; the time."""
        now = boot()
        before = offset if self._offset is None else self._offset
        stepped = offset is not None and before is not None and abs(offset - before) > STEP
        if stepped or now - self._answered_at > UNSTEADY:
            self._steady_since = now
        self._answered_at = now
        return now

    async def sweep(self, db: Connection) -> float | None:
        """Rescue; again after a second while a worker is silent or has left jobs behind."""
        try:
            silent = await self._condemn(db)
            rescued = await upkeep.rescue(db, limit=RESCUE_LIMIT)
        except LOST:
            self._answered_at = -math.inf
            raise
        self._swept_at = self._hear()
        for job in rescued:
            log.warning("rescued job %s of %s: now %s", job.id, job.node, job.state)
        if rescued:
            await jobs.ring(db, sorted({job.queue for job in rescued}))
        if len(rescued) == RESCUE_LIMIT:
            return 0.0
        return SWEEP_EVERY if silent or rescued else None

    async def _condemn(self, db: Connection) -> bool:
        """Declare the silent dead; whether there are any."""
        silent = await upkeep.silent_producers(db, patience=PATIENCE)
        offset = silent[0].seen_at.timestamp() - boot() if silent else None
        now = self._hear(offset)  # before anybody is judged: an outage may have ended
        if not silent or now - self._steady_since < STEADY:
            return bool(silent)
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
        return True


class Pruner:
    """Deletes ended jobs, old ledger lines and rows of processes that are gone, in small batches.

    What is too old is at the head of an index; what is too much must be counted, which is done now and then.
    """

    def __init__(self, retention: Retention, *, own_traces: bool) -> None:
        self._keep = retention
        self._own_traces = own_traces
        self._count_at = 0.0
        self._beyond: dict[str, int] = {}
        self._mended = self._pruned = 0

    async def prune(self, db: Connection) -> float:
        """Take each step, also after one that the database refuses; seconds to rest."""
        keep = self._keep
        await _step(db, _discard_exhausted(db))
        deleted = [
            await _step(db, prune.completed(db, age=keep.completed.age, limit=PRUNE_LIMIT)),
            await _step(db, prune.cancelled(db, age=keep.cancelled.age, limit=PRUNE_LIMIT)),
            await _step(db, prune.discarded(db, age=keep.discarded.age, limit=PRUNE_LIMIT)),
        ]
        if boot() >= self._count_at:
            await _step(db, self._count(db))
            self._count_at = boot() + COUNT_EVERY
        for state, id in self._beyond.items():
            up_to = prune.up_to(db, state=state, id=id, limit=PRUNE_LIMIT)
            deleted.append(await _step(db, up_to))
        ledger = await _step(db, prune.ledger(db, age=LEDGER_AGE, limit=PRUNE_LIMIT))
        if sum(deleted) or ledger:
            log.info("pruned %d jobs and %d ledger lines", sum(deleted), ledger)
        await _step(db, lease.forget_silent_peers(db))
        await _step(db, upkeep.forget_dead_producers(db))
        told = await _step(db, journals.prune(db, age=JOURNAL_AGE, limit=PRUNE_LIMIT))
        for forget in (deliveries.prune, prune.leaderships, prune.backfills, prune.losses):
            await _step(db, forget(db, age=LEDGER_AGE))
        await _step(db, limits.forget_rates(db))
        await _step(db, limits.forgive(db))
        edges = await _step(db, self._tend_edges(db))
        if self._own_traces:
            await _step(db, traces.prune(db))
        return 0.1 if PRUNE_LIMIT in (*deleted, ledger, told, edges) else PRUNE_EVERY

    async def _tend_edges(self, db: Connection) -> int:
        """Note ends that no trigger noted, and delete edges of jobs that are gone; how many of these."""
        self._mended, noted = await settling.mend(db, beyond=self._mended, limit=PRUNE_LIMIT)
        if noted:
            log.warning("%d jobs that others wait for had ended unnoticed", noted)
        self._pruned, deleted = await flows.prune(db, beyond=self._pruned, limit=PRUNE_LIMIT)
        return deleted

    async def _count(self, db: Connection) -> None:
        """Note, for each state with too many jobs, the newest that is too much."""
        keep, self._beyond = self._keep, {}
        for state, count in (
            ("completed", keep.completed.count),
            ("cancelled", keep.cancelled.count),
            ("discarded", keep.discarded.count),
        ):
            id = await prune.newest_beyond(db, state=state, keep=count)
            if id is not None:
                self._beyond[state] = id


async def _discard_exhausted(db: Connection) -> None:
    for id in await upkeep.discard_exhausted(db):
        log.warning("discarded job %s, which had no attempt left", id)


async def _step(db: Connection, work: Coroutine[Any, Any, int | None]) -> int:
    """Take one step, and give its count; 0 if the database refuses it."""
    try:
        return await work or 0
    except asyncpg.PostgresError as error:
        if db.is_closed():
            raise
        log.warning("could not prune: %s; going on", error)
        return 0
