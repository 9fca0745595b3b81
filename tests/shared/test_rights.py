"""The rights that the documentation names are enough for every service, and one that is missing is named."""

import asyncpg
import pytest

from quarterjack import NewJob, enqueue, enqueue_many
from quarterjack.queries import rights
from tests.conftest import TestDatabase
from tests.documents import blocks
from tests.processes import cluster
from tests.waiting import until

WORK = """
INSERT INTO qj_schedules (name, worker, cron, overlap) VALUES ('s', 'count', '* * * * * *', 'allow');
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, heartbeat_at)
VALUES (gen_random_uuid(), 'Oban', 'gone', 1, '0', 'default', 1, now() - interval '1 hour');
"""
DONE = """
SELECT
  EXISTS (SELECT FROM oban_jobs WHERE state = 'completed')
  AND EXISTS (SELECT FROM qj_producers WHERE node = 'gone' AND state = 'dead')
  AND NOT EXISTS (SELECT FROM oban_jobs WHERE state IN ('scheduled', 'suspended'))
"""
REVOKED = {
    "DELETE on oban_jobs": "REVOKE DELETE ON oban_jobs FROM quarterjack",
    "EXECUTE on qj_lives": "REVOKE EXECUTE ON FUNCTION qj_lives FROM PUBLIC",
    "INSERT on qj_audit": "REVOKE INSERT ON qj_audit FROM quarterjack",
    "SELECT on oban_peers": "REVOKE SELECT ON oban_peers FROM quarterjack",
    "SELECT on qj_asked": "REVOKE SELECT ON qj_asked FROM quarterjack",
    "UPDATE on qj_lease": "REVOKE UPDATE ON qj_lease FROM quarterjack",
    "USAGE on public.oban_jobs_id_seq": "REVOKE USAGE ON SEQUENCE oban_jobs_id_seq FROM quarterjack",
}


async def give_rights(database: TestDatabase) -> None:
    """Make the role as the documentation says."""
    await database.pool.execute(
        "DO $$ BEGIN CREATE ROLE quarterjack LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    [grants] = blocks("security.md", "sql")
    await database.pool.execute(grants)


async def test_the_documented_rights_are_enough(database: TestDatabase) -> None:
    await give_rights(database)
    await database.pool.execute(WORK)
    await database.pool.execute(
        "INSERT INTO oban_jobs (worker, state) VALUES ('count', 'scheduled')"
    )
    [first] = await enqueue_many(database.pool, [NewJob(worker="count")])
    await enqueue(database.pool, "count", after=[first.id or 0])
    plain = {
        "DATABASE_URL": database.url.replace("postgres@", "quarterjack@"),
        "QUARTERJACK_TELEMETRY": "off",
    }
    async with cluster(database) as running:
        await running.start("s", "quarterjack_scheduler", env=plain)
        work = ("quarterjack_worker", "--import", "tests.jobs", "--queue", "default=5")
        await running.start("w", *work, env=plain)

        await until(lambda: database.pool.fetchval(DONE), within=20)

        assert "denied" not in running.last_words()
        assert "lacks" not in running.last_words()


@pytest.mark.parametrize("lacking", REVOKED)
async def test_a_right_that_is_missing_is_named(database: TestDatabase, lacking: str) -> None:
    await give_rights(database)
    service = await asyncpg.connect(database.url.replace("postgres@", "quarterjack@"))
    assert await rights.missing(service) == []

    await database.pool.execute(REVOKED[lacking])

    assert await rights.missing(service) == [lacking]
    await service.close()


async def test_a_service_says_which_right_it_lacks_and_goes_on(database: TestDatabase) -> None:
    await give_rights(database)
    await database.pool.execute(WORK)
    await database.pool.execute(REVOKED["SELECT on oban_peers"])
    url = database.url.replace("postgres@", "quarterjack@")
    async with cluster(database) as running:
        await running.start("s", "quarterjack_scheduler", env={"DATABASE_URL": url})

        await until(lambda: database.pool.fetchval("SELECT EXISTS (SELECT FROM oban_jobs)"))

        assert "the role quarterjack lacks SELECT on oban_peers" in running.last_words()
