"""What files and code say of the schedules that they manage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """Who manages a schedule (`kind` is file or code), and what it says by field, as a person writes it."""

    schedule_id: int
    kind: str
    source: str
    definition: dict[str, Any]
    version: int | None
    applied_at: datetime


async def of(db: Database, ids: Sequence[int]) -> dict[int, Managed]:
    """Give what is said of these schedules, by id: by the file that made them, or by the job type's code."""
    records = await db.fetch(
        """
        SELECT m.schedule_id, 'file' AS kind, m.source, m.definition, m.version, m.applied_at
        FROM qj_managed AS m
        JOIN qj_schedules AS s ON s.id = m.schedule_id AND s.managed_by = 'file'
        WHERE m.schedule_id = ANY ($1)
        UNION ALL
        SELECT
          s.id, 'code', t.worker,
          (t.schedule - 'name')
            || jsonb_build_object('queue', t.queue, 'priority', t.priority, 'max_attempts', t.max_attempts),
          NULL, t.registered_at
        FROM qj_schedules AS s
        JOIN qj_job_types AS t ON t.worker = s.worker AND t.schedule ->> 'name' = s.name
        WHERE s.id = ANY ($1) AND s.managed_by = 'code'
        """,
        list(ids),
    )
    return {record["schedule_id"]: Managed(**record) for record in records}


async def record(
    db: Database, schedule_id: int, source: str, definition: Mapping[str, Any]
) -> None:
    """Remember what a file says of a schedule whose present version is what the file made of it."""
    await db.execute(
        """
        INSERT INTO qj_managed (schedule_id, source, definition, version)
        SELECT id, $2, $3, version FROM qj_schedules WHERE id = $1
        ON CONFLICT (schedule_id) DO UPDATE
        SET source = excluded.source, definition = excluded.definition, version = excluded.version,
            applied_at = clock_timestamp()
        """,
        schedule_id,
        source,
        dict(definition),
    )
