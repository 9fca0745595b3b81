"""The leader's loop for backfills: a few past ticks at a time, never faster than a person asked for.

Nothing is remembered between steps. The row's watermark says where to go on and its next step says when, so a lost
reply, a repeated request or a new leader neither repeats a tick, nor leaves one out, nor hurries.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

from quarterjack import cron
from quarterjack.database import REFUSED, Connection
from quarterjack.queries import backfills, calendars, jobs
from quarterjack.queries.backfills import Running
from quarterjack_scheduler.decide import NO_CALENDARS, Calendars
from quarterjack_scheduler.election import Election
from quarterjack_scheduler.striker import OTHERS_FAULT, UNREADABLE
from quarterjack_scheduler.turns import soon

log = logging.getLogger(__name__)

NAMESPACE = UUID("1f0c6c0e-54b7-5f0a-9d2c-7a3a3f7be9d4")
AGAIN = 0.2
READ = 500
DUE = timedelta(0)


class Backfiller:
    """Steps every running backfill that is due, while this replica leads."""

    def __init__(self, election: Election) -> None:
        self._election = election

    async def step(self, db: Connection) -> float | None:
        """Make the jobs that are due; seconds until the next step, None if that is far."""
        rows = await backfills.running(db, limit=READ)
        pauses = []
        for row in rows:
            term = self._election.term
            if term is None:
                return AGAIN
            if row.wait > DUE:
                pauses.append(row.wait.total_seconds())
            else:
                pauses.append(await self._advance(db, row, term))
        return soon(min(pauses, default=None))

    async def _advance(self, db: Connection, row: Running, term: int) -> float:
        """Step one backfill; one that cannot go on ends with the reason and stops no other."""
        try:
            return await self._make(db, row, term)
        except (*UNREADABLE, *REFUSED) as error:
            await self._fail(db, row, term, str(error))
        except OTHERS_FAULT as error:
            log.warning("could not step backfill %d: %s; trying again", row.id, error)
        return AGAIN

    async def _make(self, db: Connection, row: Running, term: int) -> float:
        if row.version is None or row.queue is None:
            raise ValueError("its schedule was deleted")
        if row.broken_reason is not None:
            raise ValueError(f"its schedule is set aside: {row.broken_reason}")
        ticks, following = next_ticks(row, await calendars.named(db, [row]))
        held, made = await backfills.make(
            db,
            holder=self._election.peer.uuid,
            term=term,
            id=row.id,
            version=row.version,
            expected_at=row.next_tick_at,
            next_tick_at=following,
            metas=to_metas(row, ticks, term=term),
        )
        if not held:
            log.warning("fenced: term %d is over", term)
            self._election.wake()
            return AGAIN
        if not made:
            return AGAIN
        log.debug("made %d jobs of backfill %d", len(made), row.id)
        if following is None:
            log.info("backfill %d of %s is done", row.id, row.name)
        await jobs.ring(db, [row.queue])
        return 60.0 * len(made) / row.per_minute

    async def _fail(self, db: Connection, row: Running, term: int, why: str) -> None:
        reason = why[:500].replace("\x00", "")
        holder = self._election.peer.uuid
        if await backfills.fail(db, holder=holder, term=term, id=row.id, why=reason):
            log.error("ended backfill %d: %s", row.id, reason)


def next_ticks(
    row: Running, known: Calendars = NO_CALENDARS
) -> tuple[list[datetime], datetime | None]:
    """Give the ticks of one step, and the first one after them; ValueError if the range has none left."""
    if not row.cron:
        raise ValueError("the version of its schedule that it was asked for is gone")
    number = max(1, row.per_minute // 60)
    runs = cron.Timing.of(row, known).runs(row.next_tick_at, row.to_at)
    found = list(islice(runs, number + 1))
    if not found:
        raise ValueError("its calendar has no tick left, though the dry run counted more")
    return found[:number], found[number] if len(found) > number else None


def to_metas(row: Running, ticks: Sequence[datetime], *, term: int) -> list[dict[str, Any]]:
    """Give the metas of the jobs, without the key of uniqueness: a backfill is made on purpose."""
    return [
        {
            "backfill_id": row.id,
            "cron_expr": row.cron,
            "cron_name": row.name,
            "cron_tz": row.timezone,
            "schedule_id": row.schedule_id,
            "schedule_version": row.version,
            "term": term,
            "tick_at": tick.isoformat(),
            "tick_id": tick_id(row.id, tick),
            "trigger": "backfill",
            **({"timeout": row.timeout.total_seconds()} if row.timeout else {}),
        }
        for tick in ticks
    ]


def tick_id(backfill_id: int, tick_at: datetime) -> str:
    """Name a tick of a backfill for ever, the same in every process."""
    return str(uuid5(NAMESPACE, f"{backfill_id}/{tick_at.isoformat()}"))
