"""Journals: what attempts tell of themselves while they run. One row per attempt that has told something.

The key holds the instant of the claim, so a worker that was taken for dead writes to its own attempt only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """How far an attempt is and the last lines of its log, `{"at", "level", "text"}`, oldest first."""

    job_id: int
    attempted_at: datetime
    attempt: int
    percent: float | None
    message: str | None
    lines: list[dict[str, Any]]
    left_out: int


async def write(db: Database, journals: Sequence[Journal]) -> None:
    """Write journals as they are now in one statement; may be repeated."""
    await db.execute(
        """
        INSERT INTO qj_journals (job_id, attempted_at, attempt, percent, message, lines, left_out)
        SELECT job_id, attempted_at, attempt, percent, message, lines::jsonb, left_out
        FROM
          unnest(
            $1::bigint[], $2::timestamptz[], $3::integer[], $4::real[], $5::text[], $6::text[], $7::integer[]
          ) AS j (job_id, attempted_at, attempt, percent, message, lines, left_out)
        ORDER BY job_id, attempted_at
        ON CONFLICT (job_id, attempted_at) DO UPDATE
        SET
          percent = excluded.percent,
          message = excluded.message,
          lines = excluded.lines,
          left_out = excluded.left_out,
          written_at = clock_timestamp()
        """,
        [each.job_id for each in journals],
        [each.attempted_at for each in journals],
        [each.attempt for each in journals],
        [each.percent for each in journals],
        [each.message for each in journals],
        [json.dumps(each.lines) for each in journals],
        [each.left_out for each in journals],
    )


async def of_job(db: Database, id: int, *, since: datetime, limit: int) -> list[Journal]:
    """Give the journals of a job that was inserted at `since`, the last attempt first."""
    records = await db.fetch(
        """
        SELECT job_id, attempted_at, attempt, percent, message, lines, left_out
        FROM qj_journals
        WHERE job_id = $1 AND attempted_at >= $2
        ORDER BY attempted_at DESC
        LIMIT $3
        """,
        id,
        since,
        limit,
    )
    return [Journal(**record) for record in records]


async def prune(db: Database, *, age: timedelta, limit: int) -> int:
    """Delete journals of attempts that began longer ago than `age`; how many."""
    status = await db.execute(
        """
        DELETE FROM qj_journals
        WHERE (job_id, attempted_at) IN (
          SELECT job_id, attempted_at
          FROM qj_journals
          WHERE attempted_at < now() - $1::interval
          ORDER BY attempted_at
          LIMIT $2
        )
        """,
        age,
        limit,
    )
    return int(status.rpartition(" ")[2])
