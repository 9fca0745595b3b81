"""The leader's loop: take over edits, decide what is due, sleep until the next instant.

The table is the truth. Nothing is remembered between passes, so a lost notification or a lost reply costs
a re-read, and a new leader begins where the old one's last commit left the watermarks.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import asyncpg

from quarterjack import channels, cron
from quarterjack.database import LOST, Pool
from quarterjack.queries import jobs, notifications, ticks
from quarterjack.telemetry import Span, Telemetry
from quarterjack_scheduler.clock import boot
from quarterjack_scheduler.decide import Verdict, decide, to_move, to_rows
from quarterjack_scheduler.election import Election

log = logging.getLogger(__name__)

PASS_EVERY = 1.0
HORIZON = timedelta(seconds=2)
READ = 2_000
BATCH = 500
UNREADABLE = (ValueError, TypeError, OverflowError, LookupError, AttributeError)
POISON = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class TickLoop:
    """Decides ticks while this replica leads; `wake` makes it look at once."""

    def __init__(
        self, pool: Pool, election: Election, *, schema: str, telemetry: Telemetry
    ) -> None:
        self._pool = pool
        self._election = election
        self._channel = channels.channel(schema, channels.SCHEDULER)
        self._telemetry = telemetry
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; a pass that has begun is finished."""
        reachable = True
        while not stopping.is_set():
            pause = 0.2
            self._woken.clear()
            try:
                term = self._election.term
                if term is None:
                    await ticks.now(self._pool)
                    pause = PASS_EVERY
                else:
                    pause = await self._pass(term)
                self._election.progressed()
                reachable = True
            except LOST as error:
                if reachable:
                    log.warning("could not look for ticks: %s; trying again", error)
                reachable = False
            await self._rest(pause)

    async def _pass(self, term: int) -> float:
        """Decide what is due and what falls due within a second; seconds to rest after it."""
        began = boot()
        for name in await ticks.resume_due(self._pool):
            log.info("resumed %s, whose pause has run out", name)
        await self._take_over_edits(term)
        rows = await ticks.due(self._pool, horizon=HORIZON, limit=READ)

        now = self._election.database_now()
        overdue = [row for row in rows if row.next_run_at <= now]
        verdicts = [await self._judge(row, now, term) for row in overdue]
        await self._strike_all([v for v in verdicts if v is not None], term)

        upcoming = [row for row in rows if row.next_run_at > now]
        ready = [await self._judge(row, row.next_run_at, term) for row in upcoming]
        for instant, group in groupby(
            (v for v in ready if v is not None), key=lambda verdict: verdict.due.next_run_at
        ):
            if not await self._wait_for(instant, until=began + PASS_EVERY):
                return 0.0
            await self._strike_all(list(group), term)
        return 0.0 if len(rows) == READ else max(0.0, began + PASS_EVERY - boot())

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

    async def _take_over_edits(self, term: int) -> None:
        rows = await ticks.unplanned(self._pool, limit=READ)
        if not rows:
            return
        plans = [_plan(row) for row in rows]
        peer = self._election.peer
        await ticks.plan(self._pool, holder=peer.uuid, term=term, node=peer.node, plans=plans)
        for row, plan in zip(rows, plans, strict=True):
            if plan["broken_reason"]:
                log.error("set %s aside: %s", row.name, plan["broken_reason"])
            else:
                log.info("applied version %d of %s", row.version, row.name)
        told = json.dumps({"action": "applied", "id": rows[-1].id, "version": rows[-1].version})
        await notifications.send(self._pool, self._channel, told)

    async def _judge(self, row: ticks.Due, now: datetime, term: int) -> Verdict | None:
        """Decide one schedule; one that cannot be read is set aside and stops no other."""
        try:
            return decide(row, now)
        except UNREADABLE as error:
            await self._set_aside(row, term, str(error))
            return None

    async def _strike_all(self, verdicts: Sequence[Verdict], term: int) -> None:
        for start in range(0, len(verdicts), BATCH):
            batch = verdicts[start : start + BATCH]
            try:
                await self._strike(batch, term)
            except (*POISON, *UNREADABLE):
                for verdict in batch:
                    await self._strike_alone(verdict, term)
            self._election.progressed()

    async def _strike_alone(self, verdict: Verdict, term: int) -> None:
        try:
            await self._strike([verdict], term)
        except (*POISON, *UNREADABLE) as error:
            await self._set_aside(verdict.due, term, str(error))

    async def _strike(self, verdicts: Sequence[Verdict], term: int) -> None:
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
            self._pool,
            holder=self._election.peer.uuid,
            term=term,
            moves=[to_move(verdict) for verdict in verdicts],
            decisions=decisions,
        )

        if not held:
            log.warning("fenced: term %d is over", term)
            self._election.wake()
            return
        names = {verdict.due.id: verdict.due.name for verdict in verdicts}
        for tick in struck:
            if tick.outcome == "enqueued":
                log.info(
                    "fired %s of %s as job %s",
                    names[tick.schedule_id],
                    tick.tick_at.isoformat(),
                    tick.job_id,
                )
                if span := spans.pop(tick.schedule_id, None):
                    self._telemetry.end(span)
            else:
                log.info(
                    "%s %s of %s: %s",
                    tick.outcome,
                    names[tick.schedule_id],
                    tick.tick_at.isoformat(),
                    tick.reason,
                )
        await self._ring(sorted({tick.queue for tick in struck if tick.job_id is not None}))

    async def _ring(self, queues: Sequence[str]) -> None:
        if not queues:
            return
        try:
            await jobs.ring(self._pool, queues)
        except LOST as error:
            log.warning("could not wake %s: %s; its workers will poll", queues, error)

    async def _set_aside(self, row: ticks.Due, term: int, reason: str) -> None:
        log.error("set %s aside: %s", row.name, reason[:500])
        await ticks.mark_broken(
            self._pool,
            holder=self._election.peer.uuid,
            term=term,
            id=row.id,
            version=row.version,
            reason=reason[:500],
        )

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return


def _plan(row: ticks.Unplanned) -> dict[str, Any]:
    first, reason = None, None
    try:
        parsed, zone = cron.parse(row.cron), cron.zone(row.timezone)
        if not row.paused:
            first = parsed.next_after(row.planned_from, zone, row.dst)
    except UNREADABLE as error:
        reason = str(error)[:500]
    return {
        "id": row.id,
        "version": row.version,
        "next_run_at": first and first.isoformat(),
        "broken_reason": reason,
    }
