"""Delete what nobody needs any more, in small batches. Two runners at once are harmless."""

from datetime import timedelta

from quarterjack.database import Database


async def completed(db: Database, *, age: timedelta, limit: int) -> int:
    """Delete jobs completed longer ago than `age`; how many."""
    return _count(
        await db.execute(
            """
            DELETE FROM oban_jobs
            WHERE id IN (
              SELECT id
              FROM oban_jobs
              WHERE state = 'completed' AND completed_at < timezone('UTC', now() - $1::interval)
              LIMIT $2
              FOR UPDATE SKIP LOCKED
            )
            """,
            age,
            limit,
        )
    )


async def cancelled(db: Database, *, age: timedelta, limit: int) -> int:
    """Delete jobs cancelled longer ago than `age`; how many."""
    return _count(
        await db.execute(
            """
            DELETE FROM oban_jobs
            WHERE id IN (
              SELECT id
              FROM oban_jobs
              WHERE state = 'cancelled' AND cancelled_at < timezone('UTC', now() - $1::interval)
              LIMIT $2
              FOR UPDATE SKIP LOCKED
            )
            """,
            age,
            limit,
        )
    )


async def discarded(db: Database, *, age: timedelta, limit: int) -> int:
    """Delete jobs discarded longer ago than `age`; how many."""
    return _count(
        await db.execute(
            """
            DELETE FROM oban_jobs
            WHERE id IN (
              SELECT id
              FROM oban_jobs
              WHERE state = 'discarded' AND discarded_at < timezone('UTC', now() - $1::interval)
              LIMIT $2
              FOR UPDATE SKIP LOCKED
            )
            """,
            age,
            limit,
        )
    )


async def newest_beyond(db: Database, *, state: str, keep: int) -> int | None:
    """Give the newest job of an ended state that is not among the newest `keep`, by id; None if there is none.

    It reads as many entries of an index as are to be kept: in its order, as the planner does not know how many.
    """
    id: int | None = await db.fetchval(
        """
        SELECT id
        FROM oban_jobs
        WHERE state = $1::text::oban_job_state AND state IN ('completed', 'cancelled', 'discarded')
        ORDER BY id DESC
        OFFSET (SELECT $2::bigint)
        LIMIT 1
        """,
        state,
        keep,
    )
    return id


async def up_to(db: Database, *, state: str, id: int, limit: int) -> int:
    """Delete the oldest jobs of an ended state up to an id; how many."""
    return _count(
        await db.execute(
            """
            DELETE FROM oban_jobs
            WHERE id IN (
              SELECT id
              FROM oban_jobs
              WHERE
                state = $1::text::oban_job_state
                AND state IN ('completed', 'cancelled', 'discarded')
                AND id <= $2
              ORDER BY id
              LIMIT $3
              FOR UPDATE SKIP LOCKED
            )
            """,
            state,
            id,
            limit,
        )
    )


async def ledger(db: Database, *, age: timedelta, limit: int) -> int:
    """Delete ledger lines decided longer ago than `age`, below the watermark; how many."""
    return _count(
        await db.execute(
            """
            DELETE FROM qj_ticks
            WHERE (schedule_id, tick_at) IN (
              SELECT t.schedule_id, t.tick_at
              FROM qj_ticks AS t
              LEFT JOIN qj_schedules AS s ON s.id = t.schedule_id
              WHERE
                t.decided_at < now() - $1::interval
                AND (s.id IS NULL OR t.tick_at < s.next_run_at OR s.paused_at IS NOT NULL)
              ORDER BY t.decided_at
              LIMIT $2
            )
            """,
            age,
            limit,
        )
    )


async def leaderships(db: Database, *, age: timedelta) -> None:
    """Delete the terms that ended longer ago than `age`; the present one, and one that ended within it, stay."""
    await db.execute(
        """
        DELETE FROM qj_terms
        WHERE term < (SELECT max(term) FROM qj_terms WHERE acquired_at < clock_timestamp() - $1::interval)
        """,
        age,
    )


async def backfills(db: Database, *, age: timedelta) -> None:
    """Delete the backfills that ended longer ago than `age`."""
    await db.execute(
        "DELETE FROM qj_backfills WHERE ended_at < clock_timestamp() - $1::interval", age
    )


async def losses(db: Database, *, age: timedelta) -> None:
    """Delete what was reported lost longer ago than `age`."""
    await db.execute(
        "DELETE FROM qj_lost_ticks WHERE reported_at < clock_timestamp() - $1::interval", age
    )


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
