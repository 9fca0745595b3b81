"""A failover of the database that takes back acknowledged decisions is told."""

from tests.conftest import TestDatabase
from tests.scheduler.replica import add_schedule, replica
from tests.waiting import until

FALL_BACK = """
WITH lost AS (
  DELETE FROM qj_ticks
  WHERE (schedule_id, tick_at) IN (SELECT schedule_id, tick_at FROM qj_ticks ORDER BY tick_at LIMIT 2)
  RETURNING schedule_id, tick_at, job_id
),
gone AS (
  DELETE FROM oban_jobs WHERE id IN (SELECT job_id FROM lost)
)
UPDATE qj_schedules
SET next_run_at = (SELECT min(tick_at) FROM lost), last_tick_at = NULL, paused_at = NULL
"""
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'scheduler replica'"
LOST = "SELECT count(*) = 2 FROM qj_lost_ticks WHERE reported_by = 'replica'"
REPEATED = """
SELECT count(*) = 2 AND bool_and(t.decided_at > l.decided_at)
FROM qj_lost_ticks AS l JOIN qj_ticks AS t USING (schedule_id, tick_at)
"""


async def test_what_a_failover_took_back_is_told_once_and_decided_again(
    database: TestDatabase,
) -> None:
    await add_schedule(database.pool, "often")
    async with replica(database.address):
        await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM qj_ticks"))
        async with database.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE qj_lease IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute("ALTER TABLE qj_ticks DROP CONSTRAINT qj_ticks_pkey")
            await connection.execute(FALL_BACK)
            await connection.execute("ALTER TABLE qj_ticks ADD PRIMARY KEY (schedule_id, tick_at)")
        await database.pool.execute(CUT)

        await until(lambda: database.pool.fetchval(LOST))
        await until(lambda: database.pool.fetchval(REPEATED))


async def test_a_session_that_ends_without_a_failover_is_no_loss(database: TestDatabase) -> None:
    await add_schedule(database.pool, "often")
    async with replica(database.address):
        await until(lambda: database.pool.fetchval("SELECT count(*) >= 2 FROM qj_ticks"))
        decided = await database.pool.fetchval("SELECT count(*) FROM qj_ticks")
        await database.pool.execute(CUT)
        await until(
            lambda: database.pool.fetchval("SELECT count(*) > $1 FROM qj_ticks", decided + 1)
        )

    assert await database.pool.fetchval("SELECT count(*) FROM qj_lost_ticks") == 0
