"""How late the next tick is when the leader goes: `./dev bench availability [rounds]`.

Two schedulers, ten schedules that tick every second. In each round the leader gets a signal within the last 0.2 s
before a tick, which is the worst moment; late is the instant at which the last of the ten was decided less the one at
which they were due, by the database's clock. "node lost" is a kill that the server does not hear of, because the
connections stay open: then the lease must run out.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from _rig import Budgets, Process, Rig, leader, percentile, rig, start, until

from quarterjack.database import Address

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.proxy import Proxy, proxied

SCHEDULES = 10
MAKE = """
INSERT INTO qj_schedules (name, worker, cron, queue, overlap)
SELECT 's' || n, 'w', '* * * * * *', 'q', 'allow' FROM generate_series(1, $1::integer) AS n
"""
TO_TICK = """
SELECT extract(epoch FROM date_trunc('second', t) + interval '1 s' - t)::float8 FROM clock_timestamp() AS t
"""
NEXT_TICK = "SELECT date_trunc('second', clock_timestamp()) + interval '1 s'"
LATE = """
SELECT CASE WHEN count(*) = $2 THEN extract(epoch FROM max(decided_at) - $1::timestamptz)::float8 END
FROM qj_ticks
WHERE tick_at = $1
"""
PEERS = "SELECT count(*) = 2 FROM qj_peers WHERE heartbeat_at > clock_timestamp() - interval '1 s'"


@dataclass(slots=True)
class Replica:
    """A scheduler, and its way to the database."""

    process: Process
    proxy: Proxy


class Field:
    """Two schedulers, one of which leads."""

    def __init__(self, made: Rig, proxies: list[tuple[Proxy, Address]]) -> None:
        self.made = made
        self._ways = proxies
        self._started = 0
        self.replicas: dict[str, Replica] = {}

    async def fill(self) -> None:
        """Start what is missing, and wait until both beat and one leads."""
        free = [
            way for way in self._ways if way[0] not in [r.proxy for r in self.replicas.values()]
        ]
        for proxy, address in free:
            self._started += 1
            node = f"scheduler-{self._started}"
            process = await start(self.made, node, url=address.url)
            self.replicas[node] = Replica(process, proxy)
        await until(self.made.pool, PEERS)
        await leader(self.made.pool)
        await asyncio.sleep(1.5)

    async def leading(self) -> Replica:
        return self.replicas[await leader(self.made.pool)]

    async def bury(self, replica: Replica) -> None:
        """Forget one that is dead."""
        await replica.process.end(signal.SIGKILL)
        replica.proxy.silent = False
        self.replicas = {node: each for node, each in self.replicas.items() if each is not replica}


async def kill(field: Field, replica: Replica) -> None:
    replica.process.process.kill()


async def lose(field: Field, replica: Replica) -> None:
    replica.proxy.silent = True
    replica.process.process.kill()


async def end(field: Field, replica: Replica) -> None:
    replica.process.process.terminate()


async def halt(field: Field, replica: Replica) -> None:
    replica.process.process.send_signal(signal.SIGSTOP)


SCENES: tuple[tuple[str, Callable[[Field, Replica], Awaitable[None]], float], ...] = (
    ("kill -9", kill, 0.8),
    ("kill -9, node lost", lose, 2.0),
    ("SIGTERM", end, 0.3),
    ("SIGSTOP", halt, 2.0),
)


async def main(rounds: int) -> int:
    budgets, dice = Budgets(), random.Random(1)  # noqa: S311 - phases, no secrets
    async with rig() as made, standing(made) as field:
        await made.pool.execute(MAKE, SCHEDULES)
        for title, harm, budget in SCENES:
            late = [await one_round(field, harm, dice.uniform(0.01, 0.2)) for _ in range(rounds)]
            budgets.row(f"{title}: half within", percentile(late, 0.5), "s")
            budgets.row(f"{title}: 99 of 100 within", percentile(late, 0.99), "s", budget)
        twice = "SELECT count(*) - count(DISTINCT meta ->> 'tick_id') FROM oban_jobs"
        budgets.row("ticks with two jobs", float(await made.pool.fetchval(twice)), "", 0)
        print(f"    {rounds} rounds of each, load {os.getloadavg()[0]:.1f}")
    return int(budgets.missed > 0)


async def one_round(
    field: Field, harm: Callable[[Field, Replica], Awaitable[None]], before: float
) -> float:
    """Harm the leader so long before a tick, and give how late the tick was."""
    await field.fill()
    gone, pool = await field.leading(), field.made.pool
    left = await pool.fetchval(TO_TICK)
    await asyncio.sleep(left - before if left > before + 0.05 else left + 1 - before)
    due = await pool.fetchval(NEXT_TICK)
    await harm(field, gone)
    late = await until(pool, LATE, due, SCHEDULES)
    await field.bury(gone)
    assert isinstance(late, float)
    return late


@asynccontextmanager
async def standing(made: Rig) -> AsyncIterator[Field]:
    """Have two schedulers with a proxy each."""
    address = Address(url=made.url, direct_url=made.url, schema="public")
    async with proxied(address) as one, proxied(address) as two:
        field = Field(made, [one, two])
        try:
            await field.fill()
            yield field
        finally:
            for replica in field.replicas.values():
                await replica.process.end(signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)))
