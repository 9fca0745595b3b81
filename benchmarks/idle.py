"""Ten replicas with nothing wrong: `./dev bench idle [minutes] [replicas]`.

Nobody may take the lease from a leader that is well, on whatever machine this runs. One schedule ticks every second,
to show that the leader is at work.
"""

import asyncio
import os
import sys

from _rig import Budgets, leader, percentile, rig, schedulers, until

MAKE = "INSERT INTO qj_schedules (name, worker, cron, queue, overlap) VALUES ('s', 'w', '* * * * * *', 'q', 'allow')"
PEERS = "SELECT count(*) = $1 FROM qj_peers WHERE heartbeat_at > clock_timestamp() - interval '1 s'"
MISSING = """
SELECT extract(epoch FROM max(tick_at) - min(tick_at))::integer + 1 - count(*) FROM qj_ticks WHERE outcome = 'enqueued'
"""
LATE = "SELECT extract(epoch FROM decided_at - tick_at)::float8 FROM qj_ticks ORDER BY tick_at"


async def main(minutes: float, replicas: int) -> int:
    budgets = Budgets()
    async with rig() as made:
        nodes = [f"scheduler-{number}" for number in range(1, replicas + 1)]
        async with schedulers(made, *nodes) as running:
            await leader(made.pool)
            await until(made.pool, PEERS, replicas)
            await made.pool.execute(MAKE)
            before = await made.pool.fetchval("SELECT term FROM qj_lease")
            sent = await made.statements(30.0)
            await asyncio.sleep(minutes * 60)
            after = await made.pool.fetchval("SELECT term FROM qj_lease")
            most = max(process.memory() for process in running)
        print(f"{replicas} replicas, {minutes:g} minutes, load {os.getloadavg()[0]:.1f}")
        budgets.row("changes of leader", after - before, "", 0)
        budgets.row("ticks without a job", float(await made.pool.fetchval(MISSING)), "", 0)
        late = [record[0] for record in await made.pool.fetch(LATE)]
        budgets.row("99 of 100 ticks decided within", percentile(late, 0.99), "s")
        beats = sum("qj_peers" in text and "INSERT" in text for text in sent) / 30 / replicas
        budgets.row("writes of a replica", beats, "/s", 3)
        budgets.row("statements of a replica", len(sent) / 30 / replicas, "/s", 5)
        budgets.row("memory of a replica at most", most, "MB", 200)
    return int(budgets.missed > 0)


if __name__ == "__main__":
    chosen = [*sys.argv[1:], *("10", "10")[len(sys.argv) - 1 :]]
    sys.exit(asyncio.run(main(float(chosen[0]), int(chosen[1]))))
