"""How late an idle system enqueues its ticks: `./dev bench precision [ticks]`.

A leader and a follower, one schedule that ticks every second and one that ticks every ten. Late is the instant at
which a job was inserted less the one at which it was due, both by the database's clock.
"""

import asyncio
import os
import sys

from _rig import Budgets, leader, percentile, rig, schedulers, until

MAKE = """
INSERT INTO qj_schedules (name, worker, cron, queue, overlap)
VALUES ('second', 'w', '* * * * * *', 'q', 'allow'), ('ten', 'w', '5-59/10 * * * * *', 'q', 'allow')
"""
MADE = "SELECT count(*) >= $1 FROM oban_jobs WHERE meta ->> 'cron_name' = 'second'"
LATE = """
SELECT 1000 * extract(epoch FROM inserted_at - scheduled_at)::float8
FROM oban_jobs
WHERE meta ->> 'cron_name' = $1
ORDER BY id
OFFSET 3
"""


async def main(ticks: int) -> int:
    budgets = Budgets()
    async with rig() as made:
        async with schedulers(made, "one", "two"):
            await leader(made.pool)
            await made.pool.execute(MAKE)
            await until(made.pool, MADE, ticks + 3, within=ticks + 60)
        for name, title in (("second", "every second"), ("ten", "every ten seconds")):
            late = [record[0] for record in await made.pool.fetch(LATE, name)]
            print(f"{len(late)} ticks, {title}")
            budgets.row("too early by", max(0.0, -min(late)), "ms", 0)
            budgets.row("half within", percentile(late, 0.5), "ms")
            budgets.row("99 of 100 within", percentile(late, 0.99), "ms", 15)
            budgets.row("all within", max(late), "ms")
        print(f"    load: {os.getloadavg()[0]:.1f}")
    return int(budgets.missed > 0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 120)))
