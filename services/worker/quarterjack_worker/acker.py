"""Write outcomes in batches, and never lose one.

An ack stays here until the database has said what became of it. A failed or unanswered write is repeated
for ever: the fence makes a repetition a no-op. One ack that cannot be stored is found by halving the batch, and so is
one whose row, or whose child's key, a transaction holds: it is tried by itself, in turn with the others.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import asyncpg

from quarterjack.asking import answered, taken
from quarterjack.client import enqueue_tied
from quarterjack.database import LOST, REFUSED, Connection, Pool
from quarterjack.following import Ties
from quarterjack.new_job import NewJob
from quarterjack.queries import acks
from quarterjack.queries.acks import Ack
from quarterjack.queries.claims import Claim
from quarterjack.queries.traces import Span
from quarterjack.telemetry import Telemetry

log = logging.getLogger(__name__)

BATCH = 500
ENOUGH = 100
GATHER = 0.01
FULL = 5_000
REMEMBERED = 10_000
FIRST_DELAY, LONGEST_DELAY = 0.05, 0.5
POISON = (*REFUSED, ValueError, TypeError, AttributeError)
FIRST_PATIENCE, LONGEST_PATIENCE = 3.0, 24.0
PATIENCE = 0.25
"""For how many seconds a batch waits for what somebody holds."""


class Acker:
    """Buffers acks; `run` writes them, and calls `relieved` when it is no longer full."""

    def __init__(self, pool: Pool, telemetry: Telemetry) -> None:
        self.fenced = 0
        self.relieved: Callable[[], object] = lambda: None
        self._pool = pool
        self._telemetry = telemetry
        self._spans: dict[Claim, Span] = {}
        self._children: dict[Claim, Sequence[NewJob]] = {}
        self._called: dict[Claim, Callable[[], object]] = {}
        self._pending: dict[Claim, Ack] = {}
        self._stuck: dict[Claim, None] = {}
        self._stuck_next = False
        self._written: OrderedDict[Claim, None] = OrderedDict()
        self._added = asyncio.Event()

    @property
    def full(self) -> bool:
        """True when no more jobs should be claimed, because their outcomes could not be kept."""
        return len(self._pending) >= FULL

    def __contains__(self, claim: Claim) -> bool:
        """Say whether the outcome of a claim waits to be written."""
        return claim in self._pending

    def __iter__(self) -> Iterator[Claim]:
        """Give the claims whose outcomes wait, and those that a failover may have lost."""
        yield from self._pending
        yield from self._written

    def takes_back(self, claim: Claim) -> bool:
        """Answer for a claim that the database counts as running, in vain: True if its job was completed here.

        A failover has lost that; it is written again from now on, instead of the job being run again.
        """
        if claim in self._written:
            self.add(Ack(claim=claim, state="completed"))
        return claim in self._written

    def add(
        self,
        ack: Ack,
        *,
        parent: str | None = None,
        children: Sequence[NewJob] = (),
        written: Callable[[], object] | None = None,
    ) -> None:
        """Take an outcome; it replaces one for the same claim. `parent` is the traceparent of the run.

        `children` are enqueued with a completion, in its transaction. `written` is called once it is.
        """
        claim = ack.claim
        self._pending[claim] = ack
        self._children.pop(claim, None)
        if children and ack.state == "completed":
            self._children[claim] = children
        if written is not None:
            self._called[claim] = written
        if self._telemetry.on and claim not in self._spans:
            self._spans[claim] = self._telemetry.start("ack", parent=parent, kind="client")
        self._added.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._added.wait()
            if len(self._pending) < ENOUGH:
                await asyncio.sleep(GATHER)
            await self.flush()

    async def flush(self) -> None:
        """Write all that waits; returns when the database has answered for each.

        A batch that fails is halved, in case it is too much for the time in which it must be answered, and that time
        is doubled.
        """
        delay, size, patience = FIRST_DELAY, BATCH, FIRST_PATIENCE
        while self._pending:
            try:
                async with taken(self._pool, patience) as db:
                    while self._pending:
                        self._added.clear()
                        batch = self._next(size)
                        await self._write(db, batch, patience)
                        if not self.full and len(self._pending) + len(batch) >= FULL:
                            self.relieved()
                        delay, size, patience = FIRST_DELAY, min(size * 2, BATCH), FIRST_PATIENCE
            except LOST as error:
                if delay == FIRST_DELAY:
                    waiting = len(self._pending)
                    log.warning("%d outcomes wait to be written: %s; trying on", waiting, error)
                await asyncio.sleep(delay)
                delay, size = min(delay * 2, LONGEST_DELAY), max(size // 2, 1)
                patience = min(patience * 2, LONGEST_PATIENCE)

    def _next(self, size: int) -> list[Ack]:
        """Give a batch that nobody is known to hold, or one ack that somebody does, by turns."""
        free = (ack for claim, ack in self._pending.items() if claim not in self._stuck)
        batch = _one_for_each_job(islice(free, size))
        self._stuck_next = bool(self._stuck) and not (self._stuck_next and batch)
        return [self._pending[next(iter(self._stuck))]] if self._stuck_next else batch

    async def _write(self, db: Connection, batch: Sequence[Ack], patience: float) -> None:
        try:
            await answered(db, self._settle(batch, db), patience)
        except (*POISON, asyncpg.LockNotAvailableError) as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._write(db, batch[:half], patience)
                await self._write(db, batch[half:], patience)
            elif isinstance(error, asyncpg.LockNotAvailableError):
                self._set_apart(batch[0].claim)
            elif batch[0].state == "discarded" and not batch[0].meta:
                self._forget(batch[0].claim)
                log.exception("the outcome of job %s cannot be stored", batch[0].claim.id)
            else:
                log.error(
                    "the outcome of job %s cannot be stored: %s; discarding the job",
                    batch[0].claim.id,
                    type(error).__name__,
                )
                self.add(_generic(batch[0], error))

    def _set_apart(self, claim: Claim) -> None:
        """Have it tried by itself, after all others that are."""
        if claim not in self._stuck:
            log.warning("a transaction holds up the outcome of job %d; trying on", claim.id)
        self._stuck.pop(claim, None)
        self._stuck[claim] = None

    async def _settle(self, batch: Sequence[Ack], db: Connection) -> None:
        held = await self._acknowledge(batch, db)
        missed = [ack for ack in batch if ack.claim.id not in held]
        landed = await acks.landed(db, missed) if missed else set()
        for ack in batch:
            claim = ack.claim
            if self._pending.get(claim) is ack:
                if ack.plain and claim not in self._children:
                    self._remember(claim, again=ack.claim.id in held)
                self._forget(claim)
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)
        for ack in missed:
            if ack.claim.id not in landed:
                self.fenced += 1
                log.warning(
                    "job %s was taken from this worker; its outcome %s is dropped",
                    ack.claim.id,
                    ack.state,
                    extra={"job_id": ack.claim.id},
                )

    async def _acknowledge(self, batch: Sequence[Ack], db: Connection) -> set[int]:
        """Write a batch; the ids that were still held. Children commit with the completions that made them."""
        if not self._children:
            return await _write(batch, db)
        children = {ack.claim.id: self._children.get(ack.claim, ()) for ack in batch}
        async with db.transaction():
            held = await _write(batch, db)
            born = [child for id in held for child in children[id]]
            await enqueue_tied(db, born, Ties(late=True))
        return held

    def _remember(self, claim: Claim, *, again: bool) -> None:
        if again and claim in self._written:
            log.warning("the database had lost that job %d is done; it is written again", claim.id)
        self._written[claim] = None

    def _forget(self, claim: Claim) -> None:
        del self._pending[claim]
        self._stuck.pop(claim, None)
        self._children.pop(claim, None)
        if written := self._called.pop(claim, None):
            written()
        if span := self._spans.pop(claim, None):
            self._telemetry.end(span)


def _one_for_each_job(outcomes: Iterable[Ack]) -> list[Ack]:
    """Leave those of another claim of the same job for the next batch: answers are told apart by the job's id."""
    return list({ack.claim.id: ack for ack in outcomes}.values())


async def _write(batch: Sequence[Ack], db: Connection) -> set[int]:
    plain = [ack.claim for ack in batch if ack.plain]
    held = await acks.complete(db, plain, patience=PATIENCE) if plain else set()
    if len(plain) < len(batch):
        others = [ack for ack in batch if not ack.plain]
        held |= await acks.ack(db, others, patience=PATIENCE)
    return held


def _generic(ack: Ack, error: Exception) -> Ack:
    return Ack(
        claim=ack.claim,
        state="discarded",
        error=f"Unstorable: the outcome {ack.state} could not be stored ({type(error).__name__})",
    )
