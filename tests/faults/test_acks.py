"""Replies that workers never get, outcomes that are refused, a database that is away or another (F8, F18, F31, F37)."""

import asyncio
import random
import signal
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from quarterjack_local.postgres import Server
from quarterjack_worker.service import LAST_WORDS
from tests.conftest import TestDatabase
from tests.faults.arena import Replica
from tests.faults.crew import EXECUTING, Crew, child_of, crew, said
from tests.faults.pair import pair
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(240)]
STATEMENTS = {
    "claim": b"ARRAY[$4::text, w.producer::text, $5::text]",
    "complete": b"state = 'completed', completed_at = ",
    "ack": b"AS a (id, nonce, state, error, delay, snoozed, meta)",
    "commit": b"COMMIT",
}
GIVEN_BACK = """
SELECT took FROM (
  SELECT after, lead(after) OVER w AS next, lead(at) OVER w - at AS took
  FROM fault_steps WINDOW w AS (PARTITION BY job_id ORDER BY n)
) AS s
WHERE after = 'executing' AND next = 'available'
ORDER BY took
"""
REFUSING = """
CREATE TABLE fault_refusals (job_id bigint, code text);
CREATE FUNCTION fault_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE refused text := (SELECT code FROM fault_refusals WHERE job_id = NEW.id);
BEGIN
  IF refused IS NOT NULL THEN
    RAISE EXCEPTION 'refused' USING ERRCODE = refused;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER fault_refuse AFTER UPDATE ON oban_jobs
  FOR EACH ROW WHEN (NEW.state = 'completed') EXECUTE FUNCTION fault_refuse();
"""
CODES = {"deadlock": "40P01", "serialization": "40001", "canceled": "57014", "lock": "55P03"}
COMPLETED = "SELECT bool_and(state = 'completed') FROM oban_jobs WHERE id = ANY ($1)"
OUTCOMES = (
    "SELECT DISTINCT state::text, attempt, cardinality(errors) FROM oban_jobs WHERE id = ANY ($1)"
)
EPOCH = "SELECT extract(epoch FROM clock_timestamp())::float"
MEGABYTE = 1 << 20


@pytest.mark.parametrize("which", STATEMENTS)
async def test_f18_the_reply_to_a_worker_is_cut(
    database: TestDatabase, tmp_path: Path, seed: int, which: str
) -> None:
    """It was done, and the worker does not know: a claim goes back within seconds, an outcome counts once."""
    async with crew(database, tmp_path, seed=seed) as all:
        worker = await all.hire("worker-1")
        async with all.load():
            worker.proxy.cut_reply_of = STATEMENTS[which]
            await until(partial(_cut, worker, 20), within=40.0)
            worker.proxy.cut_reply_of = None
        await all.verify()
        took = [row[0] for row in await database.pool.fetch(GIVEN_BACK)]
        all.field.diary.note("given back", took=took)
        assert bool(took) == (which == "claim")
        assert max(took, default=0.0) < 6.0, took
        kinds = "('wait', 'wait_in_thread', 'count')"
        assert not await database.pool.fetchval(
            f"SELECT max(attempt) > 1 FROM oban_jobs WHERE worker IN {kinds}"
        )


async def test_f26_one_refused_outcome_in_an_idle_queue_is_written(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """No other job ends there, so nothing but the acker's own patience can bring it."""
    await database.pool.execute(REFUSING)
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("busy")
        await all.hire("idle", queue="alone")
        took = []
        async with all.load():
            for number, code in enumerate(CODES.values()):
                ids = await all.enqueue("hold", queue="alone", gate=f"gate-{number}")
                await until(partial(all.field.ask, EXECUTING, ids, 1))
                await database.pool.execute(
                    "INSERT INTO fault_refusals VALUES ($1, $2)", *ids, code
                )
                all.open(f"gate-{number}")
                await all.field.pass_time(2.0 + all.field.dice.random())
                begin = await all.field.ask(EPOCH)
                await database.pool.execute("DELETE FROM fault_refusals")
                await until(partial(all.field.ask, COMPLETED, ids))
                took.append(await all.field.ask(EPOCH) - begin)
        await all.verify()
    assert max(took) < 1.0, took


async def test_f31_one_bad_outcome_holds_up_no_other(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """It is discarded with the reason, and the hundred that ended with it are completed."""
    await database.pool.execute(REFUSING)
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1", limit=150)
        async with all.load():
            *good, bad = await all.held(101)
            await database.pool.execute("INSERT INTO fault_refusals VALUES ($1, '23514')", bad)
            all.open()
            await until(partial(all.field.ask, COMPLETED, good), within=3.0)
        await all.finished()
        rows = await database.pool.fetch(OUTCOMES, good)
        assert [tuple(row) for row in rows] == [("completed", 1, 0)]
        row = await database.row("SELECT state::text, errors FROM oban_jobs WHERE id = $1", bad)
        assert row["state"] == "discarded"
        assert row["errors"][0]["error"].startswith("Unstorable: the outcome completed")
        await database.pool.execute("UPDATE oban_jobs SET errors = '{}' WHERE id = $1", bad)
        await all.verify()


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.nightly)])
async def test_f8_outcomes_outlive_an_outage(
    own_server_database: TestDatabase, tmp_path: Path, seed: int, seconds: int
) -> None:
    """Five thousand jobs end while the database is away; nobody is taken for dead, and none is run again."""
    database = own_server_database
    async with crew(database, tmp_path, seed=seed) as all:
        worker = await all.hire("worker-1", limit=5_050)
        async with all.field.trouble("outage"), all.load():
            held = await all.held(5_000)
            before = _resident(worker)
            await asyncio.to_thread(database.server.stop, "immediate")
            began = asyncio.get_running_loop().time()
            all.open()
            await until(partial(_done, all, held), within=20.0, every=0.2)
            gone = asyncio.get_running_loop().time() - began
            await all.field.pass_time(max(0.0, seconds - gone))
            grown = _resident(worker) - before
            await asyncio.to_thread(database.server.start)
            begin = await until(partial(all.field.ask, EPOCH))
            await until(partial(all.field.ask, COMPLETED, held), within=20.0)
            took = await all.field.ask(EPOCH) - begin
            all.field.diary.note("acknowledged", took=took, grown=grown)
        executions = await all.verify()
        rows = await database.pool.fetch(OUTCOMES, held)
    assert [tuple(row) for row in rows] == [("completed", 1, 0)]
    assert sum(each.job_id in set(held) for each in executions) == 5_000
    assert took < 5.0
    assert grown < 50 * MEGABYTE


async def test_f8_outcomes_outlive_an_outage_in_which_their_worker_is_told_to_stop(
    own_server_database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """It waits for as long as its jobs might have run, lest they are run again."""
    database = own_server_database
    async with crew(database, tmp_path, seed=seed) as all:
        worker = await all.hire("worker-1", grace=15.0)
        async with all.field.trouble("outage"):
            held = await all.held(20)
            await asyncio.to_thread(database.server.stop, "immediate")
            all.open()
            await until(partial(_done, all, held), within=20.0)
            worker.service.send(signal.SIGTERM)
            await all.field.pass_time(LAST_WORDS + 1.0)
            await asyncio.to_thread(database.server.start)
            assert await worker.service.process.wait() == 0
            await all.hire("worker-2")
        executions = await all.verify()
        rows = await database.pool.fetch(OUTCOMES, held)
    assert [tuple(row) for row in rows] == [("completed", 1, 0)]
    assert sum(each.job_id in set(held) for each in executions) == 20


async def test_f10_completions_that_a_failover_lost_are_written_again(
    server: Server, tmp_path: Path, seed: int
) -> None:
    """The new primary knows that the jobs run, and not that they are done: they are not run again."""
    async with (
        pair(tmp_path, server.bin_dir, random.Random(seed), synchronous=False) as (two, made),
        crew(made, tmp_path, seed=seed) as all,
    ):
        worker = await all.hire("worker-1", limit=300)
        held = await all.held(200, worker="pass_gate")
        await until(partial(_executing, two.standby, held))
        async with all.field.trouble("failover"):
            two.replication.silent = True
            all.open()
            await until(partial(all.field.ask, COMPLETED, held))
            await two.fail_over()
        async with all.load():
            await until(partial(all.field.ask, COMPLETED, held), within=20.0)
        await until(partial(said, worker, "is written again"))
        executions = await all.verify(again=True)
        rows = await made.pool.fetch(OUTCOMES, held)
        assert [tuple(row) for row in rows] == [("completed", 1, 0)]
        assert sum(each.job_id in set(held) for each in executions) == 200


async def test_f37_ids_that_are_issued_again_are_not_taken_for_the_old_ones(
    server: Server, tmp_path: Path, seed: int
) -> None:
    """The new primary never heard of the jobs that run, and gives their ids to others."""
    async with (
        pair(tmp_path, server.bin_dir, random.Random(seed), synchronous=False) as (two, made),
        crew(made, tmp_path, seed=seed) as all,
    ):
        worker = await all.hire("worker-1", limit=800)
        async with all.field.trouble("failover"):
            two.replication.silent = True
            old = await all.held(200, gate="old")
            await two.fail_over()
            await until(partial(all.field.ask, EPOCH))
            new = await all.held(300, gate="new")
            assert len(set(old) & set(new)) >= 100, "no id was issued again: the test tests nothing"
        async with all.load():
            all.open("old")
            await until(partial(_dropped, worker, 200))
            assert await all.field.ask(EXECUTING, new, len(new))
            all.open("new")
        await all.verify(again=True)
        rows = await made.pool.fetch(OUTCOMES, new)
        assert [tuple(row) for row in rows] == [("completed", 1, 0)]


async def _cut(worker: Replica, times: int) -> bool:
    return worker.proxy.cuts >= times


async def _executing(server: Server, ids: list[int]) -> bool:
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        return bool(await connection.fetchval(EXECUTING, ids, len(ids)))
    finally:
        await connection.close()


async def _done(all: Crew, ids: list[int]) -> bool:
    done = {each.job_id for each in all.executions() if each.outcome == "done"}
    return done.issuperset(ids)


async def _dropped(worker: Replica, number: int) -> bool:
    return sum("was taken from this worker" in line for line in worker.service.lines) >= number


def _resident(worker: Replica) -> int:
    """Bytes of memory of the process that runs the jobs."""
    status = Path(f"/proc/{child_of(worker)}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
