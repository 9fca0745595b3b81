"""A scheduler replica inside the test's own process, and what it is given to do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from quarterjack.database import Address, Database, Pool, open_pool
from quarterjack.queries import clock, lease, ticks
from quarterjack.queries.ticks import Due, Struck
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler.decide import Verdict, decide, to_move, to_rows
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.tick_loop import TickLoop
from tests.conftest import TestDatabase

HOLDER = uuid4()
AGO, HOUR = timedelta(seconds=3), timedelta(hours=1)
INSERT = """
INSERT INTO qj_schedules
  (name, worker, cron, timezone, args, queue, uniqueness, overlap, catchup, timeout, next_run_at, planned_from,
   applied_version)
SELECT
  name, coalesce(worker, 'w'), coalesce(cron, '* * * * * *'), coalesce(timezone, 'Etc/UTC'), coalesce(args, '{}'),
  coalesce(queue, 'unworked'), uniqueness, coalesce(overlap, 'allow'), coalesce(catchup, 'all'), timeout,
  next_run_at,
  coalesce(next_run_at, clock_timestamp()), CASE WHEN next_run_at IS NOT NULL THEN 1 END
FROM jsonb_to_record($1::text::jsonb) AS s (
  name text, worker text, cron text, timezone text, args jsonb, queue text, uniqueness jsonb, overlap text,
  catchup text, timeout interval, next_run_at timestamptz
)
RETURNING id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Its election and its loop, which the test may look at."""

    election: Election
    ticks: TickLoop
    pool: Pool


@asynccontextmanager
async def replica(address: Address, node: str = "replica") -> AsyncIterator[Replica]:
    """Run election and tick loop, without a listener: it must notice everything by itself."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    async with open_pool(address, name=f"scheduler {node}", size=3) as pool:
        election = Election(
            address, Peer.named(node), changed=lambda: loop.call_soon_threadsafe(looking.wake)
        )
        looking = TickLoop(
            pool, election, schema=address.schema, telemetry=Telemetry("scheduler", node)
        )
        election.start()
        running = asyncio.create_task(looking.run(stopping))
        try:
            yield Replica(election=election, ticks=looking, pool=pool)
        finally:
            stopping.set()
            looking.wake()
            await running
            await election.stop()


async def add_schedule(db: Database, name: str, **columns: Any) -> int:
    """Make a schedule; with `next_run_at` as if a leader had planned it already."""
    id: int = await db.fetchval(INSERT, json.dumps({"name": name, **columns}, default=str))
    return id


async def ready(database: TestDatabase, name: str = "s", **columns: Any) -> int:
    """A schedule that was due three seconds ago, once a minute."""
    at = (await clock.now(database.pool) - AGO).isoformat()
    return await add_schedule(
        database.pool, name, next_run_at=at, **{"cron": "0 0 1 1 *", **columns}
    )


async def lead(db: Database, holder: UUID = HOLDER) -> int:
    """Take the lease for an hour under a new term."""
    await db.execute("UPDATE qj_lease SET expires_at = '-infinity'")
    seen = await db.fetchval("SELECT term FROM qj_lease")
    term = await lease.acquire(db, uuid=holder, node="test", seen_term=seen, ttl=HOUR)
    assert term is not None
    return term


async def due(db: Database, name: str) -> Due:
    """Read one schedule as the leader reads it."""
    rows = await ticks.due(db, horizon=10 * HOUR, grace=HOUR, limit=1_000, most_overdue=1_000)
    return next(row for row in rows if row.name == name)


async def judge(db: Database, name: str, now: datetime | None = None) -> Verdict:
    """Decide one schedule up to the database's clock, or to another instant."""
    return decide(await due(db, name), now or await clock.now(db))


async def strike(
    db: Database, *verdicts: Verdict, term: int, holder: UUID = HOLDER
) -> tuple[bool, list[Struck]]:
    """Send decisions as the leader sends them."""
    return await ticks.strike(
        db,
        holder=holder,
        term=term,
        moves=[to_move(verdict) for verdict in verdicts],
        decisions=[
            row for verdict in verdicts for row in to_rows(verdict, term=term, traceparent=None)
        ],
    )
