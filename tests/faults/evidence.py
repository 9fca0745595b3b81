"""What a run leaves behind: the tables, and a file of what was done and when."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from quarterjack.database import Database
from tests.checks import Era, History, Line

SCHEDULES = """
INSERT INTO qj_schedules (name, worker, cron, timezone, queue, overlap, catchup)
SELECT
  'fault_' || n, 'w', (ARRAY['* * * * * *', '*/2 * * * * *', '*/5 * * * * *'])[1 + n % 3],
  (ARRAY['Etc/UTC', 'Asia/Kathmandu', 'Europe/Prague', 'Australia/Lord_Howe'])[1 + n % 4],
  'unworked', 'allow', (ARRAY['all', 'last', 'skip'])[1 + n % 3]
FROM generate_series(1, 12) AS n
"""
LEDGER = """
SELECT schedule_id, tick_at, until_at, outcome, version, term, decided_at FROM qj_ticks ORDER BY ctid
"""
JOBS = """
SELECT (meta ->> 'schedule_id')::bigint AS id, (meta ->> 'tick_at')::timestamptz AS at
FROM oban_jobs WHERE meta ? 'tick_id'
"""
ERAS = """
SELECT
  schedule_id AS id, version, definition ->> 'cron' AS cron, definition ->> 'paused_at' IS NOT NULL AS paused,
  created_at AS begin, lead(created_at) OVER (PARTITION BY schedule_id ORDER BY version) AS "end"
FROM qj_schedule_versions
"""
PLANNED = "SELECT id, planned_from, next_run_at FROM qj_schedules"


class Diary:
    """One JSON object for each thing that was done or seen, in order: what, when by the clock of the machine."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.seed = seed
        self.note("begin", seed=seed)

    def note(self, what: str, **more: Any) -> None:
        line = {"at": time.clock_gettime(time.CLOCK_BOOTTIME), "what": what, **more}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


async def read_history(db: Database) -> History:
    """Read the tables as the checks want them."""
    waiting = {row["id"]: row for row in await db.fetch(PLANNED)}
    eras = [Era(**row) for row in await db.fetch(ERAS)]
    for era in eras:
        if era.version == 1 and era.id in waiting and era.end is None:
            era.begin = waiting[era.id]["planned_from"]
    now: datetime = await db.fetchval("SELECT clock_timestamp()")
    return History(
        ledger=[Line(**row) for row in await db.fetch(LEDGER)],
        jobs=[(row["id"], row["at"]) for row in await db.fetch(JOBS)],
        eras=eras,
        waiting={id: row["next_run_at"] for id, row in waiting.items()},
        now=now,
    )
