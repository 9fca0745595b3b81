"""What the leader sends for ticks: requests made before their instant, sent in batches, alone when refused together."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from quarterjack.asking import answered
from quarterjack.clock import boot
from quarterjack.database import LOST, REFUSED, Answer, Connection
from quarterjack.queries import jobs, plans, ticks
from quarterjack.queries.ticks import Due, Struck
from quarterjack.queries.traces import Span
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler.decide import Calendars, decide, to_move, to_rows
from quarterjack_scheduler.election import Election
from quarterjack_scheduler.lost_ticks import LostTicks
from quarterjack_scheduler.measures import Tally

log = logging.getLogger(__name__)

BATCH = 500
LONG = 0.5
PATIENCE = 5.0
OTHERS_FAULT = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
UNREADABLE = (ValueError, TypeError, OverflowError, LookupError, AttributeError)


async def in_time(db: Connection, question: Coroutine[Any, Any, Answer]) -> Answer:
    """Ask; a server that falls silent holds up one statement, not a pass of many."""
    return await answered(db, question, PATIENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The request for one schedule, made before it is due; `next_at` is its next tick, unless that is overdue too."""

    due: Due
    next_at: datetime | None
    span: Span
    move: dict[str, Any]
    decisions: list[dict[str, Any]]


class Striker:
    """Decides and sends under one election; `sick` while the server refuses what it should take.

    `again_at` is the first tick that comes after those that were prepared since it was None.
    """

    def __init__(
        self, election: Election, telemetry: Telemetry, progressed: Callable[[], object]
    ) -> None:
        self.lost_ticks = LostTicks(election.peer.node)
        self.tally = Tally()
        self.sick = False
        self.again_at: datetime | None = None
        self._refusals: dict[int, str] = {}
        self._election = election
        self._telemetry = telemetry
        self._progressed = progressed

    async def prepare(
        self,
        db: Connection,
        rows: Sequence[Due],
        known: Calendars,
        term: int,
        now: datetime | None = None,
    ) -> tuple[list[Ready], bool]:
        """Decide up to `now`, or each up to its watermark; False if one cannot be read and is set aside.

        What is to come is prepared up to `again_at`: then one of those before is due anew, and must be read anew.
        """
        found, whole = list[Ready](), True
        for number, row in enumerate(rows, 1):
            if now is None and self.again_at is not None and self.again_at <= row.next_run_at:
                break
            try:
                ready = self._ready(row, known, term, now or row.next_run_at)
            except UNREADABLE as error:
                await self._set_aside(db, row, term, str(error))
                whole = False
            else:
                found.append(ready)
                self._comes_again(ready.next_at)
            if number % BATCH == 0:
                self._progressed()
                await asyncio.sleep(0)  # others have their turn
        return found, whole

    def _comes_again(self, at: datetime | None) -> None:
        if at is not None and (self.again_at is None or at < self.again_at):
            self.again_at = at

    async def strike_late(
        self,
        db: Connection,
        rows: Sequence[Due],
        known: Calendars,
        term: int,
        now: datetime,
        within: float = math.inf,
    ) -> tuple[bool, bool]:
        """Decide and send what is overdue, a few decisions at a time; none is begun after `within` seconds.

        False if something should be tried again soon; and False if not all were begun.
        """
        settled, batch, weight, began = True, list[Ready](), 0, boot()
        end, all_begun = began + within, True
        for row in rows:
            if boot() >= end:
                all_begun = False
                break
            ready, whole = await self.prepare(db, [row], known, term, now)
            settled = settled and whole
            batch += ready
            weight += sum(len(each.decisions) for each in ready)
            if batch and (weight >= BATCH or boot() - began >= LONG):
                settled = await self.strike(db, batch, term) and settled
                batch, weight, began = [], 0, boot()
                if not settled and self._election.term != term:
                    return False, False
        settled = await self.strike(db, batch, term) and settled if batch else settled
        return settled, all_begun

    async def strike(self, db: Connection, batch: Sequence[Ready], term: int) -> bool:
        """Send one batch; False if something should be tried again soon."""
        try:
            settled = await self._strike(db, batch, term)
        except (asyncpg.PostgresError, *UNREADABLE):
            if db.is_closed():
                raise
            settled = all([await self._strike_alone(db, ready, term) for ready in batch])
        self._progressed()
        return settled

    def _ready(self, due: Due, known: Calendars, term: int, now: datetime) -> Ready:
        verdict = decide(due, now, known, self._progressed)
        span = self._telemetry.start(
            f"tick {due.name}", kind="producer", attributes={"schedule": due.name}
        )
        traceparent = span.traceparent if self._telemetry.on else None
        rows = to_rows(verdict, term=term, traceparent=traceparent)
        upcoming = verdict.next_run_at
        next_at = upcoming if upcoming is not None and upcoming > now else None
        return Ready(due=due, next_at=next_at, span=span, move=to_move(verdict), decisions=rows)

    async def _strike_alone(self, db: Connection, ready: Ready, term: int) -> bool:
        try:
            return await self._strike(db, [ready], term)
        except (*REFUSED, *UNREADABLE) as error:
            await self._set_aside(db, ready.due, term, str(error))
            return True
        except asyncpg.PostgresError as error:
            if db.is_closed():
                raise
            if self._refusals.get(ready.due.id) != str(error):
                log.warning("could not fire %s: %s; trying again", ready.due.name, error)
            self._refusals[ready.due.id] = str(error)
            self.sick = not isinstance(error, OTHERS_FAULT)
            return False

    async def _strike(self, db: Connection, batch: Sequence[Ready], term: int) -> bool:
        """Send one request; False if a schedule in it stayed as it was."""
        began = time.time_ns()
        strike = ticks.strike(
            db,
            holder=self._election.peer.uuid,
            term=term,
            moves=[ready.move for ready in batch],
            decisions=[row for ready in batch for row in ready.decisions],
        )
        held, struck = await in_time(db, strike)

        self.sick = False
        self.lost_ticks.keep(struck)
        self.tally.note(struck)
        if not held:
            log.warning("fenced: term %d is over", term)
            self._election.wake()
            return False
        await self._ring(db, struck)
        asked = {ready.due.id: ready for ready in batch}
        for tick in struck:
            self._refusals.pop(tick.schedule_id, None)
            _log(asked[tick.schedule_id].due.name, tick)
            self._trace(asked[tick.schedule_id].span, tick, began)
        return len({tick.schedule_id for tick in struck}) == len(batch)

    def _trace(self, span: Span, tick: Struck, began: int) -> None:
        if tick.job_id is not None and not span.ended:
            span.started = began
            self._telemetry.end(span)

    async def _ring(self, db: Connection, struck: Sequence[Struck]) -> None:
        queues = sorted({tick.queue for tick in struck if tick.job_id is not None})
        stopped = sorted({id for tick in struck for id in tick.stopped})
        try:
            if stopped:
                await in_time(db, jobs.stop(db, stopped))
            if queues:
                await in_time(db, jobs.ring(db, queues))
        except LOST as error:
            log.warning("could not wake %s: %s; its workers will poll", queues, error)

    async def _set_aside(self, db: Connection, row: Due, term: int, reason: str) -> None:
        log.error("set %s aside: %s", row.name, reason[:500])
        mark = plans.mark_broken(
            db,
            holder=self._election.peer.uuid,
            term=term,
            id=row.id,
            version=row.version,
            updated_at=row.updated_at,
            reason=reason[:500].replace("\x00", ""),
        )
        await in_time(db, mark)


def _log(name: str, tick: Struck) -> None:
    at = tick.tick_at.isoformat()
    if tick.outcome == "enqueued":
        log.info("fired %s of %s as job %s", name, at, tick.job_id)
    else:
        log.info("%s %s of %s: %s", tick.outcome, name, at, tick.reason)
