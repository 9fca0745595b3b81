"""The rights that the documentation names are enough for every service."""

from tests.conftest import TestDatabase
from tests.documents import blocks
from tests.processes import cluster
from tests.waiting import until

OWN = """
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT relname FROM pg_class WHERE relname LIKE 'qj\\_%' AND relkind IN ('r', 'v') LOOP
    EXECUTE format('ALTER TABLE %I OWNER TO quarterjack', name);
  END LOOP;
END $$
"""
WORK = """
INSERT INTO qj_schedules (name, worker, cron, overlap) VALUES ('s', 'count', '* * * * * *', 'allow');
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, heartbeat_at)
VALUES (gen_random_uuid(), 'Oban', 'gone', 1, '0', 'default', 1, now() - interval '1 hour');
"""
DONE = """
SELECT
  EXISTS (SELECT FROM oban_jobs WHERE state = 'completed')
  AND EXISTS (SELECT FROM qj_producers WHERE node = 'gone' AND state = 'dead')
  AND NOT EXISTS (SELECT FROM oban_jobs WHERE state = 'scheduled')
"""


async def give_rights(database: TestDatabase) -> None:
    """Make the role as the documentation says."""
    await database.pool.execute(
        "DO $$ BEGIN CREATE ROLE quarterjack LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    await database.pool.execute(OWN)
    [grants] = blocks("security.md", "sql")
    await database.pool.execute(grants)


async def test_the_documented_rights_are_enough(database: TestDatabase) -> None:
    await give_rights(database)
    await database.pool.execute(WORK)
    await database.pool.execute(
        "INSERT INTO oban_jobs (worker, state) VALUES ('count', 'scheduled')"
    )
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
