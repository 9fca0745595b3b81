"""Calendars: days, with names, on which the ticks of the schedules that name them make no job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from quarterjack.cron import CronError, Holidays, Timed
from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A calendar in the list: how many days it has, and some schedules that name it."""

    name: str
    days: int
    updated_at: datetime
    updated_by: str
    schedules: list[str]


async def page(db: Database) -> list[Listed]:
    """List the calendars by name, the first thousand."""
    records = await db.fetch(
        """
        SELECT
          c.name, (SELECT count(*) FROM jsonb_object_keys(c.days)) AS days, c.updated_at, c.updated_by,
          ARRAY(
            SELECT s.name FROM qj_schedules AS s WHERE s.calendars @> ARRAY[c.name] ORDER BY s.name LIMIT 20
          ) AS schedules
        FROM qj_calendars AS c
        ORDER BY c.name
        LIMIT 1000
        """
    )
    return [Listed(**record) for record in records]


async def names(db: Database) -> list[str]:
    """Name the calendars there are."""
    records = await db.fetch("SELECT name FROM qj_calendars ORDER BY name LIMIT 1000")
    return [record["name"] for record in records]


async def read(db: Database, wanted: Sequence[str]) -> dict[str, Holidays]:
    """Give those of the wanted calendars that exist and can be read, by name."""
    records = await db.fetch(
        "SELECT name, days FROM qj_calendars WHERE name = ANY ($1)", list(wanted)
    )
    found = (to_holidays(record["name"], record["days"]) for record in records)
    return {each.name: each for each in found if each is not None}


async def named(db: Database, rows: Sequence[Timed]) -> dict[str, Holidays]:
    """Give the calendars that these schedules name; most name none, which costs nothing."""
    names = {name for row in rows for name in row.calendars}
    return await read(db, sorted(names)) if names else {}


async def save(db: Database, calendar: Holidays, *, by: str) -> None:
    """Make a calendar, or replace its days."""
    await db.execute(
        """
        INSERT INTO qj_calendars (name, days, updated_by)
        VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE
        SET days = excluded.days, updated_by = excluded.updated_by, updated_at = clock_timestamp()
        """,
        calendar.name,
        {day.isoformat(): title for day, title in sorted(calendar.days.items())},
        by,
    )


async def remove(db: Database, name: str) -> list[str]:
    """Delete a calendar, unless schedules name it: those, at most 20."""
    users = await db.fetch(
        "SELECT name FROM qj_schedules WHERE calendars @> ARRAY[$1::text] ORDER BY name LIMIT 20",
        name,
    )
    if not users:
        await db.execute("DELETE FROM qj_calendars WHERE name = $1", name)
    return [record["name"] for record in users]


def to_holidays(name: str, days: Mapping[str, object]) -> Holidays | None:
    """Make a calendar of a row, which another program may have written; None if it cannot be read."""
    try:
        return Holidays(
            name=name, days={date.fromisoformat(day): str(title) for day, title in days.items()}
        )
    except (ValueError, AttributeError, CronError):
        return None
