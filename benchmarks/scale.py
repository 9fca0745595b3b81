"""One leader with 100 000 schedules: `./dev bench scale [schedules] [due at once]`.

A burst that falls due in one second, the memory of the scheduler, how long it takes over what people made, and what
it asks of the database while it has nothing to do, beside the same with ten schedules. It fails if a budget is missed.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from datetime import datetime, timedelta

from _rig import Budgets, Process, Rig, leader, percentile, rig, schedulers, until

IDLE = 30.0
FEW = 10
QUIET = """
INSERT INTO qj_schedules (name, worker, cron, queue, overlap, catchup, timezone)
SELECT
  'quiet-' || n, 'w' || n % 50,
  format(
    (ARRAY['%s %s * * *', '%s %s * * 1-5', '%s %s 1,15 * *', '%s %s * */3 *'])[1 + n % 4],
    n % 60, (extract(hour FROM timezone('UTC', now()))::integer + 3 + n % 18) % 24
  ),
  'q' || n % 20, (ARRAY['allow', 'skip', 'one_pending'])[1 + n % 3], (ARRAY['skip', 'last', 'all'])[1 + n % 3],
  'Etc/UTC'
FROM generate_series($1::integer, $2::integer) AS n
"""
BURST = """
INSERT INTO qj_schedules (name, worker, cron, queue, overlap, next_run_at, applied_version)
SELECT
  'burst-' || n, 'w' || n % 50, to_char(timezone('UTC', $2), 'FMSS FMMI FMHH24') || ' * * *', 'q' || n % 20,
  (ARRAY['allow', 'skip', 'one_pending'])[1 + n % 3], $2, 1
FROM generate_series(1, $1::integer) AS n
"""
UNPLANNED = """
SELECT NOT EXISTS (SELECT FROM qj_schedules WHERE applied_version IS DISTINCT FROM version)
"""
SEEN = "SELECT count(*) AS jobs, clock_timestamp() AS now FROM oban_jobs WHERE state = 'available'"


async def main(many: int, due: int) -> int:
    budgets = Budgets()
    async with rig() as made:
        await made.pool.execute(QUIET, 1, FEW)
        async with schedulers(made, "few"):
            few = await idle(made, budgets, f"with {FEW} schedules")
        began = time.monotonic()
        await made.pool.execute(QUIET, FEW + 1, many - due, timeout=600)
        print(f"({many:,} schedules made in {time.monotonic() - began:.0f} s)")
        async with schedulers(made, "many") as [process]:
            await leader(made.pool)
            began = time.monotonic()
            await until(made.pool, UNPLANNED, within=600)
            taken = time.monotonic() - began
            budgets.row(f"taking over {many - due:,} new schedules", taken, "s")
            plenty = await idle(made, budgets, f"with {many - due:,} schedules")
            budgets.row("more statements a second than with few", plenty - few, "/s", 0.5)
            await burst(made, budgets, process, due)
            budgets.row("memory now", process.memory(), "MB", 200)
            budgets.row("memory at most", process.memory("VmHWM"), "MB", 200)
    return int(budgets.missed > 0)


async def idle(made: Rig, budgets: Budgets, what: str) -> float:
    """Count what a leader asks while nothing is due."""
    await leader(made.pool)
    await until(made.pool, UNPLANNED)
    await asyncio.sleep(5)
    sent = await made.statements(IDLE)
    rate = len(sent) / IDLE
    budgets.row(f"statements of an idle leader {what}", rate, "/s", 5)
    for words, count in Counter(text[:90] for text in sent).most_common():
        print(f"    {count / IDLE:5.2f}/s  {words}")
    return rate


async def burst(made: Rig, budgets: Budgets, process: Process, due: int) -> None:
    """Let many fall due in one second, and watch their jobs become claimable."""
    instant = datetime.now().astimezone().replace(microsecond=0) + timedelta(seconds=20)
    await made.pool.execute(BURST, due, instant, timeout=600)
    now = await made.pool.fetchval("SELECT clock_timestamp()")
    assert now < instant - timedelta(seconds=3), "this machine is too slow to set up the burst"
    seen: list[tuple[float, int]] = []
    while not seen or seen[-1][1] < due:
        row = await made.pool.fetchrow(SEEN)
        assert row is not None
        seen.append(((row["now"] - instant).total_seconds(), row["jobs"]))
        assert seen[-1][0] < 60, f"only {seen[-1][1]} of {due} after a minute"
        await asyncio.sleep(0.02)
    first = next(at for at, jobs in seen if jobs)
    half = next(at for at, jobs in seen if jobs >= due / 2)
    budgets.row(f"{due:,} due at once: the first is claimable after", first, "s")
    budgets.row("half of them after", half, "s")
    budgets.row("the last after", seen[-1][0], "s", 2)
    record = await made.pool.fetch(
        "SELECT extract(epoch FROM decided_at - tick_at)::float8 AS late FROM qj_ticks WHERE tick_at = $1",
        instant,
    )
    late = [each["late"] for each in record]
    budgets.row("decided before its instant by at most", max(0.0, -min(late)), "s", 0)
    budgets.row("median decision", percentile(late, 0.5), "s")
    print(f"    load: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    chosen = [int(each) for each in sys.argv[1:]] + [100_000, 10_000][len(sys.argv) - 1 :]
    sys.exit(asyncio.run(main(*chosen)))
