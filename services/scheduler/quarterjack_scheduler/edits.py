"""The leader takes over what people made and edited: the first tick of each, or why it cannot be read."""

import json
import logging
from typing import Any

from quarterjack import cron
from quarterjack.database import LOST, Connection
from quarterjack.queries import calendars, notifications, plans
from quarterjack_scheduler.decide import Calendars
from quarterjack_scheduler.election import Peer
from quarterjack_scheduler.striker import UNREADABLE, in_time

log = logging.getLogger(__name__)

AT_ONCE = 1_000


async def take_over(db: Connection, peer: Peer, term: int, channel: str) -> bool:
    """Plan what is new, and tell the channel; True if more is left."""
    rows = await in_time(db, plans.unplanned(db, limit=AT_ONCE))
    if not rows:
        return False
    known = await in_time(db, calendars.named(db, rows))
    wanted = [_plan(row, known) for row in rows]
    plan = plans.plan(db, holder=peer.uuid, term=term, node=peer.node, plans=wanted)
    held = await in_time(db, plan)
    told = None
    for row, plan_of_row in zip(rows, wanted, strict=True):
        if row.id not in held:
            continue
        if plan_of_row["broken_reason"]:
            log.error("set %s aside: %s", row.name, plan_of_row["broken_reason"])
        else:
            log.info("applied version %d of %s", row.version, row.name)
        told = json.dumps({"action": "applied", "id": row.id, "version": row.version})
    if told is not None:
        try:
            await in_time(db, notifications.send(db, channel, told))
        except LOST as error:
            log.warning("could not tell who waits for edits: %s; they will look", error)
    return bool(held) and len(rows) == AT_ONCE


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
        "updated_at": row.updated_at.isoformat(),
        "next_run_at": first and first.isoformat(),
        "broken_reason": reason,
    }
