"""What the leader has to do, and when: one small read each second, instead of one for each of its duties."""

from dataclasses import dataclass
from datetime import timedelta

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Waits are None where nothing is known to come, and never negative."""

    edited: bool
    resumable: bool
    orphaned: bool
    ended: bool
    ticks_in: timedelta | None
    jobs_in: timedelta | None
    backfills_in: timedelta | None

    @property
    def asks(self) -> bool:
        """Say if somebody has edited a schedule, or asked for it to be resumed by now."""
        return self.edited or self.resumable


async def look(db: Database, *, patience: timedelta) -> Outlook:
    """Look at the first row of each index of what is to come; workers silent for longer than `patience` are gone."""
    record = await db.fetchrow(
        """
        SELECT
          (
            SELECT id
            FROM qj_schedules
            WHERE
              applied_version IS DISTINCT FROM version
              OR (next_run_at IS NULL AND paused_at IS NULL AND broken_reason IS NULL)
            ORDER BY id
            LIMIT 1
          ) IS NOT NULL AS edited,
          (
            SELECT id
            FROM qj_schedules
            WHERE resume_at <= clock_timestamp() AND paused_at IS NOT NULL
            ORDER BY resume_at
            LIMIT 1
          ) IS NOT NULL AS resumable,
          EXISTS (
            SELECT
            FROM qj_producers
            WHERE
              state <> 'dead'
              AND heartbeat_at NOT BETWEEN clock_timestamp() - $1::interval AND clock_timestamp() + $1::interval
          )
          OR EXISTS (
            SELECT
            FROM oban_jobs AS j
            WHERE
              j.state = 'executing'
              AND j.attempted_by[3] IS NOT NULL
              AND NOT EXISTS (
                SELECT FROM qj_producers AS p WHERE p.uuid::text = j.attempted_by[2] AND p.state <> 'dead'
              )
          ) AS orphaned,
          (SELECT id FROM qj_ended ORDER BY id LIMIT 1) IS NOT NULL AS ended,
          (
            SELECT greatest(next_run_at, now()) - now()
            FROM qj_schedules
            WHERE paused_at IS NULL AND broken_reason IS NULL AND next_run_at IS NOT NULL
            ORDER BY next_run_at
            LIMIT 1
          ) AS ticks_in,
          (
            SELECT greatest(scheduled_at, timezone('UTC', now())) - timezone('UTC', now())
            FROM oban_jobs
            WHERE
              state IN ('scheduled', 'retryable')
              AND scheduled_at < timezone('UTC', now() + interval '1 day')
            ORDER BY scheduled_at
            LIMIT 1
          ) AS jobs_in,
          (
            SELECT greatest(min(next_step_at), now()) - now()
            FROM qj_backfills
            WHERE state = 'running' AND NOT EXISTS (SELECT FROM qj_freeze)
            HAVING count(*) > 0
          ) AS backfills_in
        """,
        patience,
    )
    assert record is not None
    return Outlook(**record)
