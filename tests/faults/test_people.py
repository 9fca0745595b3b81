"""People who hold locks, and people who edit while leaders die (F25, F39)."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.faults.arena import arena
from tests.faults.crew import crew, said
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(180)]
LOCKS = {
    "a schedule": "SELECT FROM qj_schedules WHERE name = 'fault_1' FOR UPDATE",
    "the lease": "SELECT FROM qj_lease FOR UPDATE",
    "the jobs": "LOCK TABLE oban_jobs IN ACCESS EXCLUSIVE MODE",
}
EDIT = """
UPDATE qj_schedules
SET
  cron = (ARRAY['* * * * * *', '*/2 * * * * *', '*/5 * * * * *', cron])[$2],
  args = args || '{"n": 1}',
  updated_by = 'storm'
WHERE name = 'fault_' || $1
"""
PAUSE = """
UPDATE qj_schedules
SET paused_at = CASE WHEN paused_at IS NULL THEN clock_timestamp() END, paused_by = NULL, updated_by = 'storm'
WHERE name = 'fault_' || $1
"""
APPLIED = """
SELECT bool_and(applied_version = version) FROM qj_schedules WHERE name <> 'broken'
"""


@pytest.mark.parametrize("what", LOCKS)
async def test_f25_a_forgotten_transaction_holds(
    database: TestDatabase, tmp_path: Path, seed: int, what: str
) -> None:
    """Whoever holds one schedule holds up no other."""
    async with arena(database, tmp_path, seed=seed) as field:
        id = await field.ask("SELECT id FROM qj_schedules WHERE name = 'fault_1'")
        only = {id} if what == "a schedule" else None
        async with (
            field.trouble("lock", held=what, schedules=only),
            database.pool.acquire() as person,
            person.transaction(),
        ):
            await person.execute(LOCKS[what])
            await field.pass_time(8.0)
        await field.decides()
        await field.verify()


async def test_f25_a_worker_ends_in_time_while_somebody_holds_the_jobs(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """It does not wait for the answer to a claim whose jobs would not begin."""
    async with crew(database, tmp_path, seed=seed) as all:
        old = await all.hire("old", grace=1.0)
        async with (
            all.field.trouble("lock"),
            database.pool.acquire() as person,
            person.transaction(),
        ):
            await person.execute(LOCKS["the jobs"])
            await all.field.pass_time(27.0)  # by now a claim is waited for in vain for 24 s
            old.service.send(signal.SIGTERM)
            await until(partial(said, old, " stopped"), within=14.0)


async def test_f39_edits_while_leaders_are_killed(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with arena(database, tmp_path, seed=seed) as field:
        for number in range(3, 9):
            for _ in range(30):
                which, cron = field.dice.randint(1, 12), field.dice.randint(1, 4)
                if field.dice.random() < 0.3:
                    await database.pool.execute(PAUSE, str(which))
                else:
                    await database.pool.execute(EDIT, str(which), cron)
                field.diary.note("edit", schedule=which)
                await field.pass_time(0.03)
            await field.kill(await field.leader())
            await field.start(f"scheduler-{number}")
        await field.decides()
        await field.pass_time(1.0)
        assert await field.ask(APPLIED)
        await field.verify()
