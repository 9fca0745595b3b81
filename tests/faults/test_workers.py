"""Workers that are killed, stopped, blocked, poisoned or replaced while they run jobs (F35, F36, F38)."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.faults.arena import Arena
from tests.faults.crew import child_of, crew, said, signal_node
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(240)]
STEPS = """
SELECT s.at - $2 FROM fault_steps AS s
WHERE s.job_id = ANY ($1) AND s.after = $3 AND s.at > $2
ORDER BY 1
"""
EPOCH = "SELECT extract(epoch FROM clock_timestamp())::float"
ATTEMPTS = "SELECT attempt, count(*) FROM oban_jobs WHERE id = ANY ($1) GROUP BY 1"
RESULTS = """
SELECT DISTINCT state::text, attempt, coalesce((meta ->> 'result')::integer, attempt)
FROM oban_jobs WHERE id = ANY ($1)
"""
ENDED = "SELECT bool_and(state = 'completed') FROM oban_jobs WHERE id = ANY ($1)"
OVER = """
SELECT count(*) = 0 FROM oban_jobs WHERE worker = 'wait' AND state NOT IN ('completed', 'discarded')
"""
ENOUGH = """
UPDATE oban_jobs SET state = 'cancelled', cancelled_at = timezone('UTC', now())
WHERE worker = 'poison' AND state = 'retryable' RETURNING true
"""
DISCARDED = "SELECT state = 'discarded' FROM oban_jobs WHERE id = $1"


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.nightly)])
async def test_f35_a_worker_is_lost_with_its_machine(
    database: TestDatabase, tmp_path: Path, seed: int, rounds: int
) -> None:
    """Only its silence tells."""
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("other")
        took: list[float] = []
        for number in range(rounds):
            gate, queue = f"gate-{number}", f"queue-{number}"
            victim = await all.hire(f"victim-{number}", queue=queue)
            held = await all.held(20, gate=gate, queue=queue)
            await all.hire(f"worker-{number}", queue=queue)
            async with all.load():
                begin = await all.field.ask(EPOCH)
                all.field.diary.note("kill node", node=victim.name)
                signal_node(victim, signal.SIGKILL)
                took += await _until_all(all.field, held, "executing", begin)
            all.open(gate)
        await all.verify()
    assert max(took) < 7.0, took


async def test_f35_a_worker_process_is_killed(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Its supervisor sees it die, and starts another."""
    async with crew(database, tmp_path, seed=seed) as all:
        victim = await all.hire("victim", limit=60)
        took: list[float] = []
        for number in range(4):
            async with all.load():
                held = await all.held(20, gate=f"gate-{number}")
                begin = await all.field.ask(EPOCH)
                os.kill(child_of(victim), signal.SIGKILL)
                took += await _until_all(all.field, held, "available", begin)
            all.open(f"gate-{number}")
            await all.finished()
        await all.verify()
    assert max(took) < 1.0, took


@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.nightly)])
async def test_f35_a_long_job_of_a_live_worker_is_never_rescued(
    database: TestDatabase, tmp_path: Path, seed: int, seconds: int
) -> None:
    """Neither is one whose event loop is blocked for longer than a silent worker would be given."""
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1")
        async with all.load():
            ids = await all.enqueue("wait", 3, seconds=seconds + 2)
            ids += await all.enqueue("block", seconds=10)
            await all.finished(within=seconds + 30)
        await all.verify()
        rows = await database.pool.fetch(ATTEMPTS, ids)
        assert [tuple(row) for row in rows] == [(1, 4)]


async def test_f35_a_worker_whose_interpreter_is_held_keeps_its_jobs(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """No thread of the process has a turn, but its supervisor sees that it works."""
    async with crew(database, tmp_path, seed=seed) as all:
        worker = await all.hire("worker-1")
        async with all.load():
            ids = await all.enqueue("wait", 3, seconds=12)
            ids += await all.enqueue("hold_interpreter", seconds=10)
            await all.finished(within=60)
        await until(
            partial(said, worker, "a job holds the interpreter of the worker process of worker-1")
        )
        await until(partial(said, worker, "the worker process of worker-1 goes on after"))
        await all.verify()
        rows = await database.pool.fetch(ATTEMPTS, ids)
        assert [tuple(row) for row in rows] == [(1, 4)]
        assert not await database.pool.fetch("SELECT FROM fault_deaths")


@pytest.mark.parametrize("how", ["stopped", "idle"])
async def test_f35_a_process_that_does_not_work_keeps_no_jobs(
    database: TestDatabase, tmp_path: Path, seed: int, how: str
) -> None:
    """Its supervisor lives on, but does not stand in for one that is stopped, or waits with the interpreter held."""
    async with crew(database, tmp_path, seed=seed) as all:
        victim = await all.hire("victim")
        held = await all.held(10)
        begin, child = await all.field.ask(EPOCH), child_of(victim)
        if how == "stopped":
            os.kill(child, signal.SIGSTOP)
        else:
            await all.enqueue("hold_interpreter_idly", max_attempts=1, seconds=12)
        await all.hire("other", limit=40)
        took = await _until_all(all.field, held, "executing", begin)
        all.open()
        await until(partial(all.field.ask, ENDED, held))
        if how == "stopped":
            os.kill(child, signal.SIGCONT)
        await until(partial(said, victim, "starting again"), within=20)
        assert not await said(victim, "holds the interpreter")
        await all.verify()
    assert max(took) < 7.0, took


async def test_f36_what_was_stopped_for_too_long_is_fenced(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """It goes on at the moment when its jobs may end: the results that stand are those of the second run."""
    async with crew(database, tmp_path, seed=seed) as all:
        zombie = await all.hire("zombie")
        held = await all.held(10)
        held += await all.held(10, worker="write_when_opened")
        await all.hire("worker-2", limit=60)
        async with all.load():
            all.field.diary.note("stop", node=zombie.name)
            begin = await all.field.ask(EPOCH)
            signal_node(zombie, signal.SIGSTOP)
            await _until_all(all.field, held, "executing", begin)
            await all.field.pass_time(begin + 10.0 - await all.field.ask(EPOCH))
            all.open()
            await until(partial(all.field.ask, ENDED, held))
            signal_node(zombie, signal.SIGCONT)
            await until(partial(said, zombie, "was taken from this worker"))
            await until(partial(said, zombie, "starting again"))
        await all.verify()
        rows = await database.pool.fetch(RESULTS, held)
        assert [tuple(row) for row in rows] == [("completed", 2, 2)]


async def test_f38_a_poison_job_is_discarded(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Its neighbours are run again, and cost no attempt beyond those that it took with it."""
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1")
        async with all.load():
            [poison] = await all.enqueue("poison", max_attempts=3)
            await until(partial(all.field.ask, DISCARDED, poison), within=30.0)
        await all.verify()
        row = await database.row("SELECT attempt, errors FROM oban_jobs WHERE id = $1", poison)
        assert row["attempt"] == 3
        assert ["exit code 7" in error["error"] for error in row["errors"]] == [True] * 3


async def test_f38_what_had_not_begun_beside_a_poison_job_loses_no_attempt(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """It is claimed together with it, and after it, each time."""
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1")
        made = [
            NewJob(worker=worker, max_attempts=attempts)
            for worker, attempts in [("poison", 2), *[("wait", 1)] * 15]
        ]
        async with database.pool.acquire() as connection, connection.transaction():
            ids = [job.id for job in await quarterjack.enqueue_many(connection, made)]
        await all.verify()
        rows = await database.pool.fetch(
            "SELECT state::text, attempt FROM oban_jobs WHERE id = ANY ($1)", ids
        )
        assert sorted(map(tuple, rows)) == [("completed", 1)] * 15 + [("discarded", 2)]


async def test_f38_a_poison_job_takes_no_neighbour_to_its_last_attempt(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """What has begun beside it dies with it, but not each time, however many attempts it has."""
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1")
        wait = NewJob(worker="wait", args={"seconds": 1.0}, max_attempts=9)
        async with database.pool.acquire() as connection, connection.transaction():
            await quarterjack.enqueue_many(connection, [*[wait] * 10, NewJob(worker="poison")])

        await until(partial(all.field.ask, OVER), within=100.0)

        assert await all.field.ask(
            "SELECT bool_and(state = 'completed') FROM oban_jobs WHERE worker = 'wait'"
        )
        await until(partial(all.field.ask, ENOUGH), within=30.0)
        await all.verify()


async def test_f3_a_deploy_costs_no_attempt(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Workers are replaced one after the other; what does not end in time goes back as if never claimed."""
    async with crew(database, tmp_path, seed=seed) as all:
        old = [await all.hire(f"old-{number}", grace=1.0) for number in (1, 2)]
        held = await all.held(20)
        async with all.load():
            for number, worker in enumerate(old, start=1):
                await all.hire(f"new-{number}", limit=40)
                assert await worker.service.stop(within=15.0) == 0
                assert not await said(worker, " ERROR ")
        all.open()
        await all.verify()
        rows = await database.pool.fetch(
            "SELECT DISTINCT attempt, cardinality(errors) FROM oban_jobs WHERE worker IN ('hold', 'wait', 'write')"
        )
        assert [tuple(row) for row in rows] == [(1, 0)]
        assert held


async def _until_all(field: Arena, ids: Sequence[int], state: str, begin: float) -> list[float]:
    """Wait until each job has come to that state after `begin`; the seconds that each took."""
    took: list[float] = []

    async def all_have() -> bool:
        took[:] = [row[0] for row in await field.database.pool.fetch(STEPS, ids, begin, state)]
        return len(took) >= len(ids)

    await until(all_have, within=20.0)
    field.diary.note(state, "ok", took=took)
    return took
