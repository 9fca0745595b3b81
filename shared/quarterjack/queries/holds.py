"""What keeps schedules from making jobs: a pause, one skipped tick, the freeze of all."""

from dataclasses import dataclass
from datetime import datetime

from quarterjack.database import Database
from quarterjack.model import Schedule
from quarterjack.queries.schedules import to_schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Who froze every schedule, when and why."""

    frozen_at: datetime
    frozen_by: str
    reason: str


async def skip_next(db: Database, id: int, *, by: str) -> datetime | None:
    """Let the next tick make no job; which one, or None if none is planned."""
    at: datetime | None = await db.fetchval(
        """
        UPDATE qj_schedules
        SET skip_tick_at = next_run_at, skip_by = $2
        WHERE id = $1 AND paused_at IS NULL AND broken_reason IS NULL AND next_run_at > clock_timestamp()
        RETURNING skip_tick_at
        """,
        id,
        by,
    )
    return at


async def unskip(db: Database, id: int) -> bool:
    """Let a tick that was to be skipped make its job after all; False if none was."""
    return bool(
        await db.fetchval(
            """
            UPDATE qj_schedules
            SET skip_tick_at = NULL, skip_by = NULL
            WHERE id = $1 AND skip_tick_at = next_run_at
            RETURNING true
            """,
            id,
        )
    )


async def pause(
    db: Database, id: int, *, by: str, reason: str, until: datetime | None
) -> Schedule | None:
    """Pause a schedule; None if it is paused already."""
    record = await db.fetchrow(
        """
        UPDATE qj_schedules
        SET paused_at = clock_timestamp(), paused_by = $2, paused_reason = $3, resume_at = $4, updated_by = $2
        WHERE id = $1 AND paused_at IS NULL
        RETURNING *
        """,
        id,
        by,
        reason,
        until,
    )
    return to_schedule(record) if record else None


async def resume(db: Database, id: int, *, by: str) -> Schedule | None:
    """Resume a schedule; None if it is not paused."""
    record = await db.fetchrow(
        """
        UPDATE qj_schedules
        SET paused_at = NULL, updated_by = $2
        WHERE id = $1 AND paused_at IS NOT NULL
        RETURNING *
        """,
        id,
        by,
    )
    return to_schedule(record) if record else None


async def frozen(db: Database) -> Freeze | None:
    """Read the freeze; None if schedules run."""
    record = await db.fetchrow("SELECT frozen_at, frozen_by, reason FROM qj_freeze")
    return Freeze(**record) if record else None


async def freeze(db: Database, *, by: str, reason: str) -> bool:
    """Freeze every schedule; False if they are frozen already."""
    return bool(
        await db.fetchval(
            """
            INSERT INTO qj_freeze (frozen_by, reason)
            VALUES ($1, $2)
            ON CONFLICT DO NOTHING
            RETURNING true
            """,
            by,
            reason,
        )
    )


async def thaw(db: Database) -> bool:
    """End the freeze; False if there was none. What was due meanwhile is not caught up."""
    return bool(await db.fetchval("DELETE FROM qj_freeze RETURNING true"))
