"""What a run leaves behind: the tables, and a file of what was done, said and seen."""

import json
import random
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from quarterjack.database import Connection, Database
from tests.checks import Era, History, Line, Step

BROKEN = "broken"
CRONS = (
    "* * * * * *",
    "*/2 * * * * *",
    "*/5 * * * * *",
    "1-59/3 * * * * *",
    "0,7,8,31,59 * * * * *",
    "* */2 * * * *",
    "*/4 15-44 * * * *",
    "*/3 * 0-23 * * *",
)
ZONES = ("Etc/UTC", "Asia/Kathmandu", "Europe/Prague", "Australia/Lord_Howe", "America/St_Johns")
WATCHED = """
CREATE TABLE fault_eras AS
  SELECT id, version, cron, timezone, paused_at IS NOT NULL AS paused, planned_from AS begin
  FROM qj_schedules WITH NO DATA;
ALTER TABLE fault_eras ADD PRIMARY KEY (id, version);
CREATE FUNCTION fault_note_era() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fault_eras
  VALUES (NEW.id, NEW.version, NEW.cron, NEW.timezone, NEW.paused_at IS NOT NULL, NEW.planned_from)
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER fault_note AFTER INSERT OR UPDATE ON qj_schedules FOR EACH ROW EXECUTE FUNCTION fault_note_era();

CREATE TABLE fault_steps (
  n bigserial PRIMARY KEY, job_id bigint, before text, after text,
  attempts_before integer, attempts_after integer, max_attempts integer,
  at float DEFAULT extract(epoch FROM clock_timestamp())
);
CREATE FUNCTION fault_note_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fault_steps (job_id, before, after, attempts_before, attempts_after, max_attempts)
  VALUES (NEW.id, OLD.state, NEW.state, coalesce(OLD.attempt, 0), NEW.attempt, NEW.max_attempts);
  RETURN NULL;
END $$;
CREATE TRIGGER fault_note_new AFTER INSERT ON oban_jobs FOR EACH ROW EXECUTE FUNCTION fault_note_step();
CREATE TRIGGER fault_note AFTER UPDATE ON oban_jobs
  FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION fault_note_step();
"""
INSERT = """
INSERT INTO qj_schedules
  (name, worker, cron, timezone, queue, overlap, catchup, paused_at, paused_by, resume_at)
SELECT name, 'count', cron, timezone, queue, overlap, catchup, paused_at, paused_by, resume_at
FROM jsonb_populate_recordset(NULL::qj_schedules, $1::text::jsonb)
"""
LEDGER = """
SELECT schedule_id, tick_at, until_at, outcome, version, term, decided_at, holder
FROM qj_ticks ORDER BY xmin::text::bigint, ctid
"""
JOBS = """
SELECT (meta ->> 'schedule_id')::bigint AS id, (meta ->> 'tick_at')::timestamptz AS at
FROM oban_jobs WHERE meta ? 'tick_id'
"""
ERAS = """
SELECT
  id, min(version) AS version, max(version) AS last_version, min(cron) AS cron, min(timezone) AS timezone,
  bool_and(paused) AS paused, begin, lead(begin) OVER (PARTITION BY id ORDER BY begin) AS "end"
FROM fault_eras
WHERE id NOT IN (SELECT id FROM qj_schedules WHERE name = $1)
GROUP BY id, begin
"""
STEPS = """
SELECT job_id, before, after, attempts_before, attempts_after, max_attempts FROM fault_steps ORDER BY n
"""


class Diary:
    """One JSON object for each thing that was done, said or seen: by whom, what, when since the machine started."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self.note("begin", seed=seed)

    def note(
        self,
        f: str,
        type: Literal["invoke", "ok", "fail", "info"] = "info",
        *,
        process: str = "nemesis",
        **more: Any,
    ) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        line = {"boottime": round(now, 6), "process": process, "f": f, "type": type, **more}
        self._file.write(json.dumps(line, default=str) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


async def make_schedules(db: Database, dice: random.Random, now: datetime, queue: str) -> None:
    """Make what the seed says: three that tick each second, nine others, one paused for a while, one broken."""
    rows: list[dict[str, Any]] = [
        {
            "name": f"fault_{number}",
            "cron": CRONS[0] if number <= 3 else dice.choice(CRONS),
            "timezone": dice.choice(ZONES),
            "queue": queue,
            "overlap": "allow" if number <= 9 else dice.choice(("skip", "one_pending")),
            "catchup": ("all", "last", "skip")[number % 3],
        }
        for number in range(1, 13)
    ]
    pause = {"paused_at": now, "paused_by": "nemesis", "resume_at": now + timedelta(seconds=4)}
    rows.append(rows[0] | {"name": "resumed"} | pause)
    rows.append(rows[0] | {"name": BROKEN, "cron": "0 0 30 2 *"})
    await db.execute(WATCHED)
    await db.execute(INSERT, json.dumps(rows, default=str))


async def read_history(db: Connection) -> History:
    """Read the tables as the checks want them, of one snapshot."""
    return History(
        ledger=[Line(**row) for row in await db.fetch(LEDGER)],
        jobs=[(row["id"], row["at"]) for row in await db.fetch(JOBS)],
        eras=[Era(**row) for row in await db.fetch(ERAS, BROKEN)],
        waiting={
            row["id"]: row["next_run_at"]
            for row in await db.fetch("SELECT id, next_run_at FROM qj_schedules")
        },
        now=await db.fetchval("SELECT clock_timestamp()"),
    )


async def read_steps(db: Database) -> list[Step]:
    return [Step(**row) for row in await db.fetch(STEPS)]
