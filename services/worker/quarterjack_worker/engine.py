"""One worker process at work: claim what there is room for, run it, hand its outcome to the acker.

Invariant: a job that the database counts as ours is running here, or its outcome waits in the acker, or a
claim is in flight. What is none of these was claimed by a statement whose reply was lost, and goes back.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from quarterjack import channels
from quarterjack.database import LOST, Pool, ask
from quarterjack.health import stalled
from quarterjack.model import Job, JobState
from quarterjack.queries import claims, jobs, limits
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Claim
from quarterjack.queries.traces import Span
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.runner import Released, Runner
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queue, Queues

log = logging.getLogger(__name__)

GATHER = 0.005
AUDIT_EVERY = 5.0
ANSWER_WITHIN = 10.0
FAILED = (JobState.RETRYABLE, JobState.DISCARDED)
LEVELS: dict[str, int] = {"completed": logging.DEBUG} | dict.fromkeys(FAILED, logging.WARNING)
Key = tuple[int, datetime]


class Engine:
    """Claims and runs jobs; `heard` and `wake` make it look at once."""

    def __init__(
        self,
        pool: Pool,
        node: str,
        queues: Queues,
        runner: Runner,
        *,
        acker: Acker,
        telemetry: Telemetry,
        web: ObanWeb,
    ) -> None:
        self._pool = pool
        self._node = node
        self._queues = queues
        self._runner = runner
        self._acker = acker
        self._telemetry = telemetry
        self._web = web
        self._woken = asyncio.Event()
        self._looked_at = -math.inf
        self._in_flight = False
        self._doubtful = asyncio.Event()
        self._running: dict[Key, tuple[asyncio.Task[None], Context]] = {}

    def heard(self, channel: str, message: dict[str, Any]) -> None:
        """Take a notification: an insert or a signal."""
        if channel == channels.INSERT:
            if self._queues.rung(message.get("queue")):
                self._woken.set()
        elif message.get("action") == "pkill":
            self._kill(message.get("job_id"))
        else:
            self._queues.obey(message)
            self._woken.set()

    def wake(self) -> None:
        """Look at every queue, as if each had been rung."""
        self._queues.rung(None)
        self._woken.set()

    async def claim_all(self, stopping: asyncio.Event) -> None:
        """Claim until told to stop: when woken, when room is made, and every second."""
        reachable = True
        while not stopping.is_set():
            self._woken.clear()
            try:
                more = await self._claim()
                self._looked_at = time.monotonic()
                reachable = True
            except LOST as error:
                more = False
                self._doubtful.set()
                if reachable:
                    log.warning("could not claim: %s; trying again", error)
                reachable = False
            if not more:
                await _within(self._woken.wait(), self._queues.patience())
                if self._running and not self._queues.roomy():
                    await asyncio.sleep(GATHER)
                if not self._woken.is_set():
                    self._queues.rung(None)

    def unready(self) -> str | None:
        """Say for how long it has not looked for jobs, if for too long."""
        return stalled("it has not looked for jobs", time.monotonic() - self._looked_at)

    def job_of(self, task: "asyncio.Task[object] | None") -> Job | None:
        """Give the job that runs in a task; None if it is none's. Any thread may ask."""
        for running, context in list(self._running.values()):
            if running is task:
                return context.job
        return None

    def running(self) -> dict[str, list[int]]:
        """Give the ids of the jobs that run, by queue."""
        ids: dict[str, list[int]] = {}
        for _, context in self._running.values():
            ids.setdefault(context.job.queue, []).append(context.job.id)
        return ids

    async def audit(self) -> None:
        """Give lost claims back, after every doubtful claim and every 5 s, until cancelled."""
        while True:
            await _within(self._doubtful.wait(), AUDIT_EVERY)
            self._doubtful.clear()
            try:
                await self._give_lost_back()
            except LOST as error:
                log.debug("could not look for lost claims: %s", error)
                await asyncio.sleep(0.5)
                self._doubtful.set()

    async def drain(self, grace: float) -> None:
        """Wait for what runs, cancel the rest after `grace` seconds, and give it back unharmed."""
        tasks = [task for task, _ in self._running.values()]
        if tasks:
            log.info("draining: %d jobs run, for at most %.0f s", len(tasks), grace)
            await asyncio.wait(tasks, timeout=grace)
        left = list(self._running.items())
        for _, (task, context) in left:
            context.cancel()
            task.cancel()
        if left:
            await asyncio.wait([task for _, (task, _) in left], timeout=2.0)

    async def _claim(self) -> bool:
        wants = self._queues.wants()
        if not any(self._queues[want.queue].hungry for want in wants) or self._acker.full:
            return False
        began = time.time_ns()
        self._in_flight = True
        try:
            claimed = await ask(
                self._pool,
                partial(limits.claim, wants=wants, node=self._node, nonce=uuid4().hex[:12]),
                ANSWER_WITHIN,
            )
        finally:
            self._in_flight = False
        counts: dict[str, int] = {}
        for job in claimed.jobs:
            counts[job.queue] = counts.get(job.queue, 0) + 1
            self._start(job, claimed_from=began)
        for want in wants:
            self._queues[want.queue].hungry = counts.get(want.queue, 0) >= want.demand
            self._queues[want.queue].held_back = claimed.held_back.get(want.queue)
        return any(queue.hungry and queue.free for queue in self._queues)

    def _start(self, job: Job, *, claimed_from: int) -> None:
        context = self._runner.begin(job)
        queue = self._queues[job.queue]
        queue.running += 1
        self._trace_claim(job, claimed_from)
        task = asyncio.create_task(self._execute(queue, context))
        self._running[job.id, context.claim.attempted_at] = task, context

    async def _execute(self, queue: Queue, context: Context) -> None:
        job = context.job
        span = self._trace_run(job) if self._telemetry.on else None
        began = time.monotonic_ns()
        try:
            ack = await self._runner.run(context)
            state = ack.state if ack else JobState.COMPLETED
            if span is not None:
                self._telemetry.end(span, error=_failure(ack))
            if ack is not None:
                parent = span.traceparent if span else None
                self._acker.add(ack, parent=parent, children=context.children)
            _log_end(job, state, ack)
            self._web.ended(job, state, ran=time.monotonic_ns() - began)
            if context.thread is not None and not context.thread.done():
                await asyncio.wait([context.thread])
        except Released:
            await self._let_go(context)
        finally:
            self._running.pop((job.id, context.claim.attempted_at), None)
            queue.running -= 1
            if queue.hungry:
                self._woken.set()

    def _trace_claim(self, job: Job, began: int) -> None:
        if self._telemetry.on and (parent := job.meta.get("traceparent")):
            span = self._telemetry.start(f"claim {job.queue}", parent=parent, kind="consumer")
            span.started = began
            self._telemetry.end(span)

    def _trace_run(self, job: Job) -> Span:
        return self._telemetry.start(
            job.worker,
            parent=job.meta.get("traceparent"),
            kind="consumer",
            attributes={"queue": job.queue, "job.id": str(job.id), "attempt": str(job.attempt)},
        )

    def _kill(self, id: object) -> None:
        for (job_id, _), (task, context) in self._running.items():
            if type(id) is int and job_id == id:
                log.info("job %s is cancelled by a signal", id, extra={"job_id": id})
                context.kill()
                task.cancel()

    async def _give_lost_back(self) -> None:
        producers, before = [queue.producer for queue in self._queues], set(self._running)
        held = await ask(self._pool, partial(claims.held_by, producers=producers), ANSWER_WITHIN)
        if self._in_flight:
            await asyncio.sleep(10 * GATHER)
            self._doubtful.set()
            return
        lost = [
            claim
            for claim in held
            if (claim.id, claim.attempted_at) not in self._running
            and not self._acker.takes_back(claim.id, claim.attempted_at)
        ]
        if lost:
            log.warning("giving %d jobs back whose claim went unanswered", len(lost))
            await self._give_back(lost)
        for key in before - {(claim.id, claim.attempted_at) for claim in held}:
            self._stop_taken(key)

    def _stop_taken(self, key: Key) -> None:
        """Stop a run whose job was cancelled or given to another, in case the signal was lost."""
        task, context = self._running.get(key, (None, None))
        if task is not None and context is not None and not context.completed:
            log.warning("job %s is no longer this worker's; stopping it", key[0])
            context.kill()
            task.cancel()

    async def _let_go(self, context: Context) -> None:
        """Give a cancelled job back, unless its thread still runs: then it goes back when this process ends."""
        if context.thread is not None and not context.thread.done():
            return
        try:
            await self._give_back([context.claim])
        except LOST as error:
            log.warning("could not give job %s back yet: %s", context.job.id, error)

    async def _give_back(self, lost: list[Claim]) -> None:
        queues = await ask(self._pool, partial(claims.release, claims=lost), ANSWER_WITHIN)
        if queues:
            await ask(self._pool, partial(jobs.ring, queues=sorted(set(queues))), ANSWER_WITHIN)


async def _within(waiting: Awaitable[object], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return


def _failure(ack: Ack | None) -> str | None:
    """Give the first line of what a failed attempt ended with."""
    if ack is None or not ack.error or ack.state not in FAILED:
        return None
    return ack.error.partition("\n")[0][:300]


def _log_end(job: Job, state: str, ack: Ack | None) -> None:
    """Log it: a failure as a warning, and for what went well, which may be thousands a second, at most a debug line."""
    level = LEVELS.get(state, logging.INFO)
    if log.isEnabledFor(level):
        said = _failure(ack)
        said = f": {said}" if said else ""
        log.log(
            level, "job %s %s is %s%s", job.id, job.worker, state, said, extra={"job_id": job.id}
        )
