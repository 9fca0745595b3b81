"""The leader's loop: look what is to do, take over edits, decide what is due, sleep until the next instant.

The table is the truth. Nothing is remembered between passes, so a lost notification or a lost reply costs
a re-read, and a new leader begins where the old one's last commit left the watermarks. What falls due within
a pass is decided before its instant; at the instant the requests are only sent.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import asyncpg

from quarterjack import channels
from quarterjack.asking import taken
from quarterjack.clock import boot, within
from quarterjack.database import LOST, Connection, Pool
from quarterjack.health import stalled
from quarterjack.queries import calendars, clock, outlook, plans, ticks
from quarterjack.queries.outlook import Outlook
from quarterjack.queries.ticks import Due
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler import edits
from quarterjack_scheduler.decide import GRACE
from quarterjack_scheduler.election import Election
from quarterjack_scheduler.measures import Tally
from quarterjack_scheduler.striker import BATCH, LONG, PATIENCE, Ready, Striker, in_time

log = logging.getLogger(__name__)

PASS_EVERY = 1.0
HORIZON = timedelta(seconds=2)
READ, OVERDUE = 10_000, 1_000
SILENCE = timedelta(seconds=5)
AGAIN = 0.1
NEAR = 0.1


class TickLoop:
    """Decides ticks while this replica leads; `wake` makes it look at once, `told` hears what each look saw."""

    def __init__(
        self,
        pool: Pool,
        election: Election,
        *,
        schema: str,
        telemetry: Telemetry,
        told: Callable[[Outlook], object] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._election = election
        self._channel = channels.channel(schema, channels.SCHEDULER)
        self._told = told
        self._striker = Striker(election, telemetry, self._progress)
        self._passed_at = -math.inf
        self._looked_at = -math.inf
        self._woken = asyncio.Event()

    @property
    def tally(self) -> Tally:
        """Give what it has decided."""
        return self._striker.tally

    def wake(self) -> None:
        self._woken.set()

    def unready(self) -> str | None:
        """Say for how long it has finished no pass, if for too long."""
        return stalled("the tick loop has finished no pass", boot() - self._passed_at)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; a request that was sent is waited for."""
        reachable = True
        while not stopping.is_set():
            pause = 0.2
            self._woken.clear()
            self._election.check()
            try:
                term, self._striker.sick = self._election.term, False
                async with taken(self._pool, PATIENCE) as db:
                    pause = await self._turn(term, db)
                self._progress()
                reachable = True
            except LOST as error:
                if reachable:
                    log.warning("could not look for ticks: %s; trying again", error)
                reachable = False
            await self._rest(pause)

    async def _turn(self, term: int | None, db: Connection) -> float:
        """Make a pass if this replica leads, otherwise see that the database answers."""
        await in_time(db, self._striker.lost_ticks.look(db))
        if term is not None:
            return await self._pass(term, db)
        await in_time(db, clock.now(db))
        return PASS_EVERY

    async def _pass(self, term: int, db: Connection) -> float:
        """Decide what is due and what falls due within the horizon; seconds to rest after it."""
        began = boot()
        seen = await self._look(db)
        if seen.resumable:
            await self._resume(db)
        more = False
        if seen.asks:
            more = await edits.take_over(db, self._election.peer, term, self._channel)
            self._progress()
        elif seen.ticks_in is None or seen.ticks_in > HORIZON:
            return max(0.0, began + PASS_EVERY - boot())

        settled = await self._decide(term, db)
        if settled is False:
            return PASS_EVERY if self._striker.sick else AGAIN
        if settled or more:
            return 0.0
        return max(0.0, began + PASS_EVERY - boot())

    async def _resume(self, db: Connection) -> None:
        """Resume what is due; an edit notifies, and so may be refused while all others have their ticks."""
        try:
            for name in await in_time(db, plans.resume_due(db)):
                log.info("resumed %s, whose pause has run out", name)
        except asyncpg.ProgramLimitExceededError as error:
            log.warning("could not resume schedules: %s; trying again", error)

    async def _decide(self, term: int, db: Connection) -> bool | None:
        """Decide what is due within the horizon; False if something is left, None if nothing is due."""
        self._striker.again_at = None
        found = ticks.due(db, horizon=HORIZON, grace=GRACE, limit=READ, most_overdue=OVERDUE)
        rows = await in_time(db, found)
        known = await in_time(db, calendars.named(db, rows))
        now = self._election.database_now()
        missed, late, coming = _by_lateness(rows, now)
        settled, _ = await self._striker.strike_late(db, late, known, term, now)
        random.shuffle(missed)  # so that none that stays as it is keeps its place before others
        struck, all_begun = await self._striker.strike_late(db, missed, known, term, now, LONG)
        settled = settled and struck
        if not all_begun:  # what comes due meanwhile goes before the others
            return settled
        ready, whole = await self._striker.prepare(db, coming, known, term)
        settled = settled and whole
        self._progress()
        while ready and self._election.term == term:
            if not await self._wait_for(db, ready[0].due.next_run_at):
                return True
            due = self._come(ready[:BATCH])
            settled = await self._striker.strike(db, due, term) and settled
            ready = ready[len(due) :]
        return settled if rows else None

    async def _look(self, db: Connection) -> Outlook:
        self._looked_at = boot()
        seen = await in_time(db, outlook.look(db, patience=SILENCE))
        self._told(seen)
        return seen

    async def _wait_for(self, db: Connection, instant: datetime) -> bool:
        """Sleep until the database's clock reads `instant`; False if there is something to do before."""
        while (left := (instant - self._election.database_now()).total_seconds()) > 0:
            until_look = self._looked_at + PASS_EVERY - boot()
            if left > NEAR and until_look <= 0:
                if (await self._look(db)).asks:
                    return False
                self._progress()
                continue
            await self._rest(left if left <= NEAR else min(left, until_look))
            if self._woken.is_set():
                return False
        return True

    def _come(self, ready: list[Ready]) -> list[Ready]:
        """Give those whose instant has come; the first one's has."""
        now = self._election.database_now()
        return [ready[0], *(each for each in ready[1:] if each.due.next_run_at <= now)]

    def _progress(self) -> None:
        if not self._striker.sick:
            self._passed_at = boot()
            self._election.progressed()

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            await within(seconds, self._woken.wait())


def _by_lateness(rows: Sequence[Due], now: datetime) -> tuple[list[Due], list[Due], list[Due]]:
    """Give those that were missed, those that are merely late, and those whose instant has not come."""
    return (
        [row for row in rows if row.next_run_at < now - GRACE],
        [row for row in rows if now - GRACE <= row.next_run_at <= now],
        [row for row in rows if now < row.next_run_at],
    )
