"""A worker shows that it lives, whatever becomes of the jobs' table."""

from quarterjack.queries.producers import Producing
from quarterjack_worker.heartbeat import Heartbeat
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.test_claims import producer

SILENCE = "SELECT clock_timestamp() - heartbeat_at < $1::text::interval FROM qj_producers"


async def test_a_lock_on_the_jobs_table_makes_no_worker_look_dead(database: TestDatabase) -> None:
    uuid = await producer(database)
    mine = [Producing(uuid=uuid, queue="default", limit=1, running=0, paused=False)]
    heartbeat = Heartbeat(
        database.address, "n", lambda: mine, asked=lambda *_: None, condemned=lambda: None
    )
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("LOCK oban_jobs")
        await database.pool.execute("UPDATE qj_producers SET heartbeat_at = 'epoch'")
        heartbeat.start()
        try:
            await until(lambda: database.pool.fetchval(SILENCE, "2 s"), within=5)
        finally:
            await heartbeat.stop()
