"""The Postgres in memory answers as the real one does."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from quarterjack.database import Database
from quarterjack.queries import lease, outlook, plans, ticks
from quarterjack_scheduler.decide import decide, to_move, to_rows
from tests.conftest import TestDatabase
from tests.scheduler.replica import add_schedule
from tests.simulation.postgres import Postgres
from tests.simulation.test_simulation import ROW

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
HOLDER, OTHER = uuid4(), uuid4()
PAST = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = """
SELECT s.id, s.version, s.paused_at IS NOT NULL AS paused, s.next_run_at, s.last_tick_at, s.applied_version,
  (SELECT array_agg((t.tick_at, t.outcome)::text ORDER BY t.tick_at) FROM qj_ticks AS t
   WHERE t.schedule_id = s.id AND t.term IS NOT NULL) AS lines,
  (SELECT count(*) FROM oban_jobs AS j WHERE j.meta ->> 'schedule_id' = s.id::text) AS jobs
FROM qj_schedules AS s ORDER BY s.id
"""


class Pair:
    """The same schedule in both, and the same requests to both."""

    def __init__(self, real: Database, fake: Postgres, id: int, dice: random.Random) -> None:
        self.real, self.fake, self.id, self.dice = real, fake, id, dice
        self.planned = timedelta(0)

    @property
    def row(self) -> dict[str, Any]:
        return self.fake.state.schedules[self.id]

    async def strike(self) -> None:
        found = [
            each
            for each in self.fake.due(
                None, horizon=HOUR * 24 * 3650, grace=HOUR, limit=9, most_overdue=9
            )
            if each.id == self.id
        ]
        if not found:
            return
        shift = self.dice.choice([timedelta(0)] * 3 + [SECOND])
        due = replace(
            found[0],
            version=found[0].version - self.dice.choice([0, 0, 0, 1]),
            updated_at=self.instant(),
            next_run_at=found[0].next_run_at + shift,
        )
        verdict = decide(due, due.next_run_at + self.dice.randrange(3) * SECOND)
        sent: dict[str, Any] = {
            "holder": self.dice.choice([HOLDER, HOLDER, HOLDER, OTHER]),
            "term": 1 + self.dice.choice([0, 0, 0, 1]),
            "moves": [to_move(verdict)],
            "decisions": to_rows(verdict, term=1, traceparent=None),
        }
        real, fake = await ticks.strike(self.real, **sent), self.fake.strike(None, **sent)
        assert _seen(real) == _seen(fake)

    async def plan(self) -> None:
        version = self.row["version"] - self.dice.choice([0, 0, 1])
        self.planned += HOUR
        first = PAST + self.planned + self.dice.choice([0, 0, 10**9]) * SECOND
        sent: dict[str, Any] = {
            "holder": self.dice.choice([HOLDER, HOLDER, OTHER]),
            "term": 1,
            "node": "n",
            "plans": [
                {
                    "id": self.id,
                    "version": version,
                    "updated_at": self.instant().isoformat(),
                    "next_run_at": first.isoformat(),
                    "broken_reason": None,
                }
            ],
        }
        assert await plans.plan(self.real, **sent) == self.fake.plan(None, **sent)

    async def edit(self) -> None:
        paused = self.dice.random() < 0.4 and not self.row["paused"]
        change = self.dice.random() < 0.5
        cron = self.dice.choice(["* * * * * *", "*/2 * * * * *"]) if change else self.row["cron"]
        if (cron, paused) == (self.row["cron"], self.row["paused"]):
            return
        await self.real.execute(
            "UPDATE qj_schedules SET cron = $2, paused_at = CASE WHEN $3 THEN now() END WHERE id = $1",
            self.id,
            cron,
            paused,
        )
        self.fake.edit(self.id, cron=cron, paused=paused)
        await self.agree()

    async def agree(self) -> None:
        """Take over the instant of the edit, which each gives by its own clock."""
        read = "SELECT updated_at FROM qj_schedules WHERE id = $1"
        self.row["updated_at"] = await self.real.fetchval(read, self.id)

    def instant(self) -> datetime:
        """Give the instant of the edit, or another."""
        at: datetime = self.row["updated_at"]
        return at - timedelta(microseconds=self.dice.choice([0, 0, 0, 1]))

    async def look(self) -> None:
        wanted = {each.id for each in await plans.unplanned(self.real, limit=9)}
        assert (self.id in wanted) == any(
            each.id == self.id for each in self.fake.unplanned(None, limit=9)
        )
        real = await outlook.look(self.real, patience=SECOND)
        fake = self.fake.look(None, patience=SECOND)
        assert (real.edited, real.resumable) == (fake.edited, fake.resumable)
        assert (real.ticks_in is None) == (fake.ticks_in is None)

    def table(self) -> tuple[Any, ...]:
        state, row = self.fake.state, self.row
        lines = [
            (line.tick_at, line.outcome)
            for line in sorted(state.ledger, key=lambda line: line.tick_at)
            if line.term is not None
        ]
        columns = ("version", "paused", "next_run_at", "last_tick_at", "applied_version")
        return (*(row[name] for name in columns), len(lines), len(state.jobs))


def _seen(answer: tuple[bool, list[ticks.Struck]]) -> tuple[bool, list[tuple[Any, ...]]]:
    held, struck = answer
    return held, sorted((each.tick_at, each.outcome, each.job_id is None) for each in struck)


@pytest.mark.parametrize("seed", range(12))
async def test_both_answer_alike(database: TestDatabase, seed: int) -> None:
    dice, db = random.Random(seed), database.pool
    id = await add_schedule(db, "s", queue="q")
    await db.execute("UPDATE qj_schedules SET planned_from = $1 WHERE id = $2", PAST, id)
    fake = Postgres(datetime.now(UTC), lambda: 0.0)
    fake.add(id, {**ROW, "name": "s", "catchup": "all", "cron": "* * * * * *"}, PAST)
    seen = await db.fetchval("SELECT term FROM qj_lease")
    await lease.acquire(db, uuid=HOLDER, node="n", seen_term=seen, ttl=HOUR)
    fake.acquire(None, uuid=HOLDER, seen_term=seen, ttl=HOUR)
    pair = Pair(db, fake, id, dice)
    await pair.agree()

    for _ in range(60):
        await dice.choice(
            [pair.strike, pair.strike, pair.strike, pair.plan, pair.edit, pair.look]
        )()
        record = (await db.fetch(TABLES))[0]
        assert pair.table() == (
            *(record[name] for name in ("version", "paused", "next_run_at", "last_tick_at")),
            record["applied_version"],
            len(record["lines"] or []),
            record["jobs"],
        )
