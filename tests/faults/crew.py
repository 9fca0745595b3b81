"""Workers beside the schedulers of an arena, each behind a proxy of its own, and a load to break them under."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import quarterjack
from quarterjack import NewJob
from quarterjack.database import LOST
from tests.conftest import TestDatabase
from tests.faults.arena import Arena, Replica, arena
from tests.job_checks import Execution, check_effects, check_executions
from tests.waiting import until

WORKER = "quarterjack_worker"
EFFECTS = "effects.jsonl"
WATCHED = """
CREATE TABLE fault_effects (job_id bigint);
CREATE TABLE fault_deaths (producer text, at float);
CREATE FUNCTION fault_note_death() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fault_deaths VALUES (NEW.uuid, extract(epoch FROM clock_timestamp()));
  RETURN NULL;
END $$;
CREATE TRIGGER fault_note_death AFTER UPDATE ON qj_producers
  FOR EACH ROW WHEN (NEW.state = 'dead' AND OLD.state <> 'dead') EXECUTE FUNCTION fault_note_death();
"""
OWED = """
SELECT count(*) = 0 FROM oban_jobs
WHERE inserted_at < $1 AND state NOT IN ('completed', 'discarded', 'cancelled')
"""
EXECUTING = "SELECT count(*) = $2 FROM oban_jobs WHERE id = ANY ($1) AND state = 'executing'"
BLAMED = """
SELECT id, worker, errors FROM oban_jobs
WHERE worker IN ('count', 'wait', 'wait_in_thread', 'hold', 'fail_once', 'snooze_once') AND (
  SELECT count(*) > (worker = 'fail_once')::integer
  FROM unnest(errors) AS e WHERE e ->> 'error' !~ '^(Orphaned|WorkerDied)'
)
"""
NOW = "SELECT timezone('UTC', clock_timestamp())"
LOAD_EVERY, LOAD = 0.1, 4
FINISHED_WITHIN = 30.0


@dataclass(slots=True)
class Crew:
    """The workers, and the directory that handlers write to and whose files are their gates."""

    field: Arena
    place: Path

    async def hire(
        self, name: str, *, limit: int = 20, queue: str = "default", grace: float = 5.0, **env: str
    ) -> Replica:
        """Start a worker, and wait until it works."""
        arguments = ("--import", "tests.faults.work", "--queue", f"{queue}={limit}")
        worker = await self.field.start(
            name,
            module=WORKER,
            arguments=(*arguments, "--grace", str(grace)),
            FAULT_EFFECTS=str(self.place / EFFECTS),
            **env,
        )
        await until(partial(said, worker, " started"), within=30.0)
        return worker

    async def enqueue(
        self,
        worker: str,
        number: int = 1,
        *,
        queue: str = "default",
        max_attempts: int = 20,
        **args: Any,
    ) -> list[int]:
        job = NewJob(worker=worker, args=args, queue=queue, max_attempts=max_attempts)
        new = [job] * number
        return [
            job.id
            for job in await quarterjack.enqueue_many(self.field.database.pool, new)
            if job.id
        ]

    async def held(
        self, number: int, *, worker: str = "hold", gate: str = "gate", queue: str = "default"
    ) -> list[int]:
        """Jobs that run until their gate opens, once all of them run."""
        ids = await self.enqueue(worker, number, gate=gate, queue=queue)
        await until(partial(self.field.ask, EXECUTING, ids, number), within=20.0)
        await until(partial(self._begun, ids), within=20.0)
        return ids

    async def _begun(self, ids: list[int]) -> bool:
        """Say whether handlers have them: a claim that the database knows may not have reached its worker yet."""
        return {each.job_id for each in self.executions()}.issuperset(ids)

    def open(self, gate: str = "gate") -> None:
        (self.place / gate).touch()

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Enqueue all kinds of jobs, 40 in a second, inside; a database that is away takes none."""
        loading = asyncio.create_task(self._load())
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            assert loading.cancelled(), loading.exception()

    async def _load(self) -> None:
        kinds = ("wait", "wait_in_thread", "write", "write", "fail_once", "snooze_once")
        while True:
            chosen = self.field.dice.choices(kinds, k=LOAD)
            seconds = self.field.dice.uniform(0.0, 0.1)
            new = [NewJob(worker=kind, args={"seconds": seconds}) for kind in chosen]
            with suppress(*LOST):
                await quarterjack.enqueue_many(self.field.database.pool, new)
            await asyncio.sleep(LOAD_EVERY)

    def executions(self) -> list[Execution]:
        """Everything that handlers have written down."""
        file = self.place / EFFECTS
        lines = (
            [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
        )
        begun = [line for line in lines if line["what"] == "began"]
        ended = {_run_of(line): line for line in lines if line["what"] != "began"}
        nothing = {"at": None, "what": None}
        return [
            Execution(line["job_id"], line["producer"], line["at"], end["at"], end["what"])
            for line in begun
            for end in [ended.get(_run_of(line), nothing)]
        ]

    async def finished(self, within: float = FINISHED_WITHIN) -> None:
        """C8: wait until every job that is there by now has come to its end."""
        moment = await until(partial(self.field.ask, NOW), within=within)
        await until(partial(self.field.ask, OWED, moment), within=within)

    async def verify(self, *, again: bool = False) -> list[Execution]:
        """Wait for the last job, end all in order, check everything; `again` if a failover took acks back."""
        await self.finished()
        await self.field.verify()
        executions, pool = self.executions(), self.field.database.pool
        deaths = {
            row["producer"]: row["at"] for row in await pool.fetch("SELECT * FROM fault_deaths")
        }
        if not again:
            check_executions(executions, deaths)
        rows = await pool.fetch("SELECT job_id FROM fault_effects")
        completed = await pool.fetch(
            "SELECT id FROM oban_jobs WHERE worker LIKE 'write%' AND state = 'completed'"
        )
        check_effects([row[0] for row in rows], {row[0] for row in completed})
        blamed = await pool.fetch(BLAMED)
        assert not blamed, f"an error that is none, or one that stands twice: {blamed[0]}"
        self.field.diary.note("executions", number=len(executions), written=len(rows))
        return executions


def _run_of(line: dict[str, Any]) -> tuple[int, str]:
    """One claim of one job; ids alone may be issued again after a failover."""
    return line["job_id"], line["claimed"]


async def said(worker: Replica, words: str) -> bool:
    return any(words in line for line in worker.service.lines)


def child_of(worker: Replica) -> int:
    """The process that runs the jobs; the service itself is its supervisor."""
    return children_of(worker)[0]


def children_of(worker: Replica) -> list[int]:
    """Empty between two lives of the process, while its supervisor gives back what the last one left."""
    pid = worker.service.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def signal_node(worker: Replica, number: signal.Signals) -> None:
    """To the supervisor and all its children, as if their machine were meant."""
    os.killpg(worker.service.pid, number)


@asynccontextmanager
async def crew(
    database: TestDatabase, tmp_path: Path, *, seed: int, schedulers: int = 1
) -> AsyncIterator[Crew]:
    """Start schedulers, which fire into the queue of the workers, and watch what becomes of jobs."""
    await database.pool.execute(WATCHED)
    async with arena(database, tmp_path, seed=seed, replicas=schedulers, queue="default") as field:
        yield Crew(field, tmp_path)
