"""The leader's loop: take over edits, decide what is due, sleep until the next instant.

The table is the truth. Nothing is remembered between passes, so a lost notification or a lost reply costs
a re-read, and a new leader begins where the old one's last commit left the watermarks.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

import asyncpg

from quarterjack import channels, cron
from quarterjack.database import LOST, REFUSED, Connection, Pool, ask
from quarterjack.queries import calendars, jobs, notifications, plans, ticks
from quarterjack.queries.traces import Span
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler.audit import Audit
from quarterjack_scheduler.clock import boot
from quarterjack_scheduler.decide import Calendars, Verdict, decide, to_move, to_rows
from quarterjack_scheduler.election import Election

log = logging.getLogger(__name__)

PASS_EVERY = 1.0
HORIZON = timedelta(seconds=2)
READ = 2_000
BATCH = 500
PATIENCE = 5.0
AGAIN = 0.1
OTHERS_FAULT = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
UNREADABLE = (ValueError, TypeError, OverflowError, LookupError, AttributeError)


class TickLoop:
    """Decides ticks while this replica leads; `wake` makes it look at once."""

    def __init__(
        self, pool: Pool, election: Election, *, schema: str, telemetry: Telemetry
    ) -> None:
        self._pool = pool
        self._election = election
        self._channel = channels.channel(schema, channels.SCHEDULER)
        self._telemetry = telemetry
        self._audit = Audit(election.peer.node)
        self._woken = asyncio.Event()
        self._sick = False

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; a pass that has begun is finished."""
        reachable = True
        while not stopping.is_set():
            pause = 0.2
            self._woken.clear()
            self._election.check()
            try:
                term, self._sick = self._election.term, False
                pause = await ask(self._pool, partial(self._turn, term), PATIENCE)
                self._progress()
                reachable = True
            except LOST as error:
                if reachable:
                    log.warning("could not look for ticks: %s; trying again", error)
                reachable = False
            await self._rest(pause)

    async def _turn(self, term: int | None, db: Connection) -> float:
        """Make a pass if this replica leads, otherwise see that the database answers."""
        await self._audit.look(db)
        if term is not None:
            return await self._pass(term, db)
        await ticks.now(db)
        return PASS_EVERY

    async def _pass(self, term: int, db: Connection) -> float:
        """Decide what is due and what falls due within a second; seconds to rest after it."""
        began = boot()
        for name in await plans.resume_due(db):
            log.info("resumed %s, whose pause has run out", name)
        await self._take_over_edits(db, term)
        rows = await ticks.due(db, horizon=HORIZON, limit=READ)

        known = await calendars.named(db, rows)
        now = self._election.database_now()
        overdue = [row for row in rows if row.next_run_at <= now]
        verdicts = [await self._judge(db, row, now, known, term) for row in overdue]
        settled = await self._strike_all(db, [v for v in verdicts if v is not None], term)

        upcoming = [row for row in rows if row.next_run_at > now]
        ready = [await self._judge(db, row, row.next_run_at, known, term) for row in upcoming]
        for instant, group in groupby(
            (v for v in ready if v is not None), key=lambda verdict: verdict.due.next_run_at
        ):
            if not await self._wait_for(instant, until=began + PASS_EVERY):
                return 0.0
            settled = await self._strike_all(db, list(group), term) and settled
        if len(rows) == READ:
            return 0.0
        return max(0.0, began + PASS_EVERY - boot()) if settled else AGAIN

    async def _wait_for(self, instant: datetime, *, until: float) -> bool:
        """Sleep until the database's clock reads `instant`; False if woken or out of time before."""
        while (left := (instant - self._election.database_now()).total_seconds()) > 0:
            spare = until - boot()
            if spare <= 0:
                return False
            await self._rest(min(left, spare))
            if self._woken.is_set():
                return False
        return True

    async def _take_over_edits(self, db: Connection, term: int) -> None:
        rows = await plans.unplanned(db, limit=READ)
        if not rows:
            return
        known = await calendars.named(db, rows)
        wanted = [_plan(row, known) for row in rows]
        peer = self._election.peer
        held = await plans.plan(db, holder=peer.uuid, term=term, node=peer.node, plans=wanted)
        told = None
        for row, plan in zip(rows, wanted, strict=True):
            if row.id not in held:
                continue
            if plan["broken_reason"]:
                log.error("set %s aside: %s", row.name, plan["broken_reason"])
            else:
                log.info("applied version %d of %s", row.version, row.name)
            told = json.dumps({"action": "applied", "id": row.id, "version": row.version})
        if told is not None:
            await notifications.send(db, self._channel, told)

    async def _judge(
        self, db: Connection, row: ticks.Due, now: datetime, known: Calendars, term: int
    ) -> Verdict | None:
        """Decide one schedule; one that cannot be read is set aside and stops no other."""
        try:
            return decide(row, now, known)
        except UNREADABLE as error:
            await self._set_aside(db, row, term, str(error))
            return None

    async def _strike_all(self, db: Connection, verdicts: Sequence[Verdict], term: int) -> bool:
        """Strike in batches; False if something is left that should be tried again soon."""
        settled = True
        for start in range(0, len(verdicts), BATCH):
            batch = verdicts[start : start + BATCH]
            try:
                settled = await self._strike(db, batch, term) and settled
            except (asyncpg.PostgresError, *UNREADABLE):
                if db.is_closed():
                    raise
                alone = [await self._strike_alone(db, verdict, term) for verdict in batch]
                settled = all(alone) and settled
            self._progress()
        return settled

    def _progress(self) -> None:
        if not self._sick:
            self._election.progressed()

    async def _strike_alone(self, db: Connection, verdict: Verdict, term: int) -> bool:
        try:
            return await self._strike(db, [verdict], term)
        except (*REFUSED, *UNREADABLE) as error:
            await self._set_aside(db, verdict.due, term, str(error))
            return True
        except asyncpg.PostgresError as error:
            if db.is_closed():
                raise
            log.warning("could not fire %s: %s; trying again", verdict.due.name, error)
            self._sick = not isinstance(error, OTHERS_FAULT)
            return False

    async def _strike(self, db: Connection, verdicts: Sequence[Verdict], term: int) -> bool:
        """Strike one batch; False if a schedule in it stayed as it was."""
        spans: dict[int, Span] = {}
        decisions: list[dict[str, Any]] = []
        for verdict in verdicts:
            due = verdict.due
            spans[due.id] = self._telemetry.start(
                f"tick {due.name}", kind="producer", attributes={"schedule": due.name}
            )
            traceparent = spans[due.id].traceparent if self._telemetry.on else None
            decisions += to_rows(verdict, term=term, traceparent=traceparent)

        held, struck = await ticks.strike(
            db,
            holder=self._election.peer.uuid,
            term=term,
            moves=[to_move(verdict) for verdict in verdicts],
            decisions=decisions,
        )

        self._sick = False
        self._audit.keep(struck)
        if not held:
            log.warning("fenced: term %d is over", term)
            self._election.wake()
            return False
        names = {verdict.due.id: verdict.due.name for verdict in verdicts}
        for tick in struck:
            _log(names[tick.schedule_id], tick)
            if tick.job_id is not None and (span := spans.pop(tick.schedule_id, None)):
                self._telemetry.end(span)
        await self._ring(db, struck)
        return len({tick.schedule_id for tick in struck}) == len(verdicts)

    async def _ring(self, db: Connection, struck: Sequence[ticks.Struck]) -> None:
        queues = sorted({tick.queue for tick in struck if tick.job_id is not None})
        stopped = sorted({id for tick in struck for id in tick.stopped})
        try:
            if stopped:
                await jobs.stop(db, stopped)
            if queues:
                await jobs.ring(db, queues)
        except LOST as error:
            log.warning("could not wake %s: %s; its workers will poll", queues, error)

    async def _set_aside(self, db: Connection, row: ticks.Due, term: int, reason: str) -> None:
        log.error("set %s aside: %s", row.name, reason[:500])
        await plans.mark_broken(
            db,
            holder=self._election.peer.uuid,
            term=term,
            id=row.id,
            version=row.version,
            reason=reason[:500].replace("\x00", ""),
        )

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return


def _log(name: str, tick: ticks.Struck) -> None:
    at = tick.tick_at.isoformat()
    if tick.outcome == "enqueued":
        log.info("fired %s of %s as job %s", name, at, tick.job_id)
    else:
        log.info("%s %s of %s: %s", tick.outcome, name, at, tick.reason)


def _plan(row: plans.Unplanned, known: Calendars) -> dict[str, Any]:
    first, reason = None, None
    try:
        timing = cron.Timing.of(row, known)
        if not row.paused:
            first = timing.next_after(row.planned_from)
            reason = None if first else timing.over()
    except UNREADABLE as error:
        reason = str(error)[:500]
    return {
        "id": row.id,
        "version": row.version,
        "next_run_at": first and first.isoformat(),
        "broken_reason": reason,
    }
