"""The attempts of this process, from their claim to their outcome, which goes to the acker."""

import asyncio
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial

from quarterjack.asking import ask
from quarterjack.clock import boot
from quarterjack.database import LOST, Pool
from quarterjack.model import Job, JobState
from quarterjack.queries import claims, jobs
from quarterjack.queries.claims import Claim
from quarterjack.queries.traces import Span
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.endings import Endings, failure
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.runner import Released, Runner
from quarterjack_worker.marks import Marks
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queue, Queues

log = logging.getLogger(__name__)

ANSWER_WITHIN = 10.0
LAST_WORDS = 2.0
NAMED = 20
SLICE = 100
"""How many attempts begin at a time: what a thousand tasks touch in turn fits no processor's cache."""
PATIENCE = 0.05
"""For how many seconds a claimed job waits for others to end; then it goes back, for whoever has room at once."""
LATE = 3.0
"""A worker that is silent for 5 s is taken for dead, and its last heartbeat may be a second older than the claim."""


class Attempts:
    """Runs claimed jobs, each in a task; `ended` is called with the queue of each that has ended.

    `relieved` is called with a queue whose limits over all nodes count one of its jobs no more.

    `doubtful` is set when the database may count jobs as this process's that are not here, `stirred` by new ones.

    Invariant: no more than a queue's limit have begun and not ended. Those beyond it wait, in the order of their claim.
    None begins when another worker may have it: a process that was stopped, or whose claim was answered late, may have
    been taken for dead meanwhile.
    """

    def __init__(
        self,
        pool: Pool,
        queues: Queues,
        runner: Runner,
        *,
        acker: Acker,
        telemetry: Telemetry,
        web: ObanWeb,
        ended: Callable[[Queue], object],
        relieved: Callable[[Queue], object],
        marks: int | None = None,
    ) -> None:
        self._pool = pool
        self._queues = queues
        self._runner = runner
        self._acker = acker
        self._telemetry = telemetry
        self._ended = ended
        self._relieved = relieved
        self._variables = contextvars.copy_context()
        self._held: dict[Claim, Context] = {}
        self._going_back: set[asyncio.Task[None]] = set()
        self._beginning = self._watched = False
        self.doubtful, self.stirred = asyncio.Event(), threading.Event()
        self.endings = Endings(web)
        self._marks = None if marks is None else Marks(marks, self._unwritten)

    def __bool__(self) -> bool:
        return bool(self._held)

    def __contains__(self, claim: Claim) -> bool:
        return claim in self._held

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._held)

    def take(self, jobs: Sequence[Job], *, asked_at: float) -> None:
        """Take jobs whose claim was asked for at `asked_at`, of the clock `boot`.

        They begin in their order, a slice in each turn of the loop.
        """
        for job in jobs:
            context = self._runner.begin(job)
            context.asked_at, context.marks = asked_at, self._marks
            if self._marks is not None:
                self._marks.take(job.id)
            self._held[context.claim] = context
            self._queues[job.queue].waiting.append(context)
            if self._telemetry.on:
                self._trace_claim(job, asked_at)
        self.stirred.set()
        if not self._beginning:
            self._begin_some()
        self._watch()

    def _unwritten(self) -> Iterator[int]:
        """Give the ids of all jobs of this process that the database may count as running."""
        for id, _ in (*self._held, *self._acker):
            yield id

    def job_of(self, task: "asyncio.Task[object] | None") -> Job | None:
        """Give the job that runs in a task; None if it is none's. Any thread may ask."""
        held = list(self._held.values())
        return next((each.job for each in held if each.task and each.task is task), None)

    def running(self) -> dict[str, list[int]]:
        """Give the ids of the jobs that run, by queue."""
        ids: dict[str, list[int]] = {}
        for context in self._held.values():
            ids.setdefault(context.job.queue, []).append(context.job.id)
        return ids

    def kill(self, id: object) -> None:
        """Stop the attempts of a job that someone cancelled."""
        for (job_id, _), context in self._held.items():
            if type(id) is int and job_id == id:
                log.info("job %s is cancelled by a signal", id, extra={"job_id": id})
                self._kill(context)

    def stop_taken(self, claim: Claim) -> None:
        """Stop one whose job was cancelled or given to another, in case the signal was lost."""
        context = self._held.get(claim)
        if context is not None and not context.completed:
            log.warning("job %s is cancelled, or another worker's; stopping it", claim.id)
            self._kill(context)

    def _kill(self, context: Context) -> None:
        context.kill()
        context.interrupt()
        if context.task is None:  # it begins only to end: its handler will not run
            queue = self._queues[context.job.queue]
            queue.waiting.remove(context)
            self._begin(queue, context)

    async def drain(self, grace: float) -> None:
        """Wait for what runs; give back unharmed what waits for a process, and after `grace` seconds the rest."""
        self._send_back(self._held.keys(), self._queues)
        if self._held:
            log.info("draining: %d jobs run, for at most %.0f s", len(self._held), grace)
        for patience, marked in ((grace, False), (LAST_WORDS, True)):
            stopped = [each for each in self._held.values() if each.marked == marked]
            if stopped and marked:
                ids = ", ".join(str(context.claim.id) for context in stopped[:NAMED])
                more = f" and {len(stopped) - NAMED} more" if len(stopped) > NAMED else ""
                log.warning("the grace of %.0f s is over: stopping jobs %s%s", grace, ids, more)
            for context in stopped:
                context.cancel()
                context.interrupt()
            await self._all_ended(patience)

    async def _all_ended(self, within: float) -> None:
        tasks = [context.task for context in self._held.values() if context.task is not None]
        if tasks := [*tasks, *self._going_back]:
            await asyncio.wait(tasks, timeout=within)

    def _begin_some(self) -> None:
        left = SLICE
        for queue in self._queues:
            while left and queue.ready:
                self._begin(queue, queue.waiting.popleft())
                left -= 1
        self._beginning = not left
        if self._beginning:
            asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin(self, queue: Queue, context: Context) -> None:
        """Begin one with the context variables of the process: it is often the end of another that makes room here."""
        queue.running += 1
        context.task = asyncio.get_running_loop().create_task(
            self._run(queue, context), context=self._variables.copy()
        )

    def _watch(self) -> None:
        """See to it that those that wait now do not wait for long."""
        if self._watched or not any(queue.waiting for queue in self._queues):
            return
        self._watched = True
        seen = {context.claim for queue in self._queues for context in queue.waiting}
        asyncio.get_running_loop().call_later(PATIENCE, self._give_up, seen)

    def _give_up(self, seen: Set[Claim]) -> None:
        self._watched = False
        if not self._beginning:
            self._begin_some()  # a queue may have been resumed or scaled up, and nothing of it have ended since
        self._send_back(seen, [queue for queue in self._queues if not queue.ready])
        self._watch()

    def _send_back(self, keys: Set[Claim], queues: Iterable[Queue]) -> None:
        """Give those of them that wait back unharmed; if that fails, they are claims whose reply was lost."""
        late: list[Context] = []
        for queue in queues:
            gone = [context for context in queue.waiting if context.claim in keys]
            if gone:
                queue.waiting = deque(each for each in queue.waiting if each.claim not in keys)
                queue.slow_down()
                late += gone
        if late:
            log.debug("giving %d jobs back that waited for others to end", len(late))
            for context in late:
                del self._held[context.claim]
            task = asyncio.create_task(self._give_back([context.claim for context in late]))
            self._going_back.add(task)
            task.add_done_callback(self._going_back.discard)

    async def _run(self, queue: Queue, context: Context) -> None:
        job = context.job
        context.begun = True
        began = boot()
        try:
            if began - context.asked_at > LATE and not context.cancelled():
                self.doubtful.set()  # all that are dropped here go back together, as lost claims
                return
            span = self._trace_run(job) if self._telemetry.on else None
            ack = await self._runner.run(context)
            state = ack.state if ack else JobState.COMPLETED
            if span is not None:
                self._telemetry.end(span, error=failure(ack))
            if ack is not None:
                parent = span.traceparent if span else None
                written = partial(self._relieved, queue) if queue.limited else None
                self._acker.add(ack, parent=parent, children=context.children, written=written)
            elif queue.limited:
                self._relieved(queue)
            self.endings.note(job, state, ack, boot() - began)
            if context.thread is not None and not context.thread.done():
                context.begun = False  # it keeps its place until its thread ends, however often it is told to stop
                await asyncio.wait([context.thread])
        except Released:
            await self._let_go(context)
        finally:
            self._held.pop(context.claim, None)
            queue.ended(boot() - began)
            if not self._beginning and queue.ready:
                self._begin(queue, queue.waiting.popleft())
            self._ended(queue)

    async def _let_go(self, context: Context) -> None:
        """Give a cancelled job back, unless its thread still runs: then it goes back when this process ends."""
        if context.thread is None or context.thread.done():
            await self._give_back([context.claim])

    async def _give_back(self, lost: Sequence[Claim]) -> None:
        try:
            if await give_back(self._pool, lost) < len(lost):
                self.doubtful.set()
        except LOST as error:
            ids = ", ".join(str(claim.id) for claim in lost)
            log.warning("could not give jobs back yet: %s: %s", ids, error)
            self.doubtful.set()

    def _trace_claim(self, job: Job, asked_at: float) -> None:
        if parent := job.meta.get("traceparent"):
            span = self._telemetry.start(f"claim {job.queue}", parent=parent, kind="consumer")
            span.started = time.time_ns() - int((boot() - asked_at) * 1e9)
            self._telemetry.end(span)

    def _trace_run(self, job: Job) -> Span:
        return self._telemetry.start(
            job.worker,
            parent=job.meta.get("traceparent"),
            kind="consumer",
            attributes={"queue": job.queue, "job.id": str(job.id), "attempt": str(job.attempt)},
        )


async def give_back(pool: Pool, lost: Sequence[Claim]) -> int:
    """Give claims back as if they had never been made, for whoever has room; how many, without those that are held."""
    queues = await ask(pool, partial(claims.release, claims=lost), ANSWER_WITHIN)
    if queues:
        await ask(pool, partial(jobs.ring, queues=sorted(set(queues))), ANSWER_WITHIN)
    return len(queues)
