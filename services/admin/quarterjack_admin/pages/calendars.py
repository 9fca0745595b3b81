"""Calendars of days without runs: listed, written by hand or taken from an iCalendar text, deleted."""

from collections.abc import Mapping
from datetime import date
from urllib.parse import quote

from aiohttp import web

from quarterjack.cron import CronError, Holidays
from quarterjack.cron.ical import read_holidays
from quarterjack.queries import calendars, clock, runs
from quarterjack_admin import audit
from quarterjack_admin.guard import digest
from quarterjack_admin.keys import reading, session_of, writing
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page

YEARS_AHEAD = 10
ICAL = "BEGIN:VCALENDAR"
TAKEN = "a calendar has this name already: open that one"
DELETED = "it was deleted meanwhile: save again to make it anew"
CHANGED = (
    "someone saved other days meanwhile: open it again to see them, or save again to replace them"
)
LABELS = {"name": "Name", "days": "Days"}


@requires("view")
async def show(request: web.Request) -> web.Response:
    """List the calendars and who names them."""
    async with reading(request) as db:
        shell, listed = await look_around(db), await calendars.page(db)
    return page(
        request, "calendars.html", shell=shell, calendars=listed, calendar_path=calendar_path
    )


@requires("schedules.edit")
async def edit(request: web.Request) -> web.Response:
    """Show the days of a calendar, or an empty form."""
    name = request.match_info.get("name")
    if name is None:
        return await _form(request, {"name": "", "days": ""}, {})
    async with reading(request) as db:
        found = (await calendars.read(db, [name])).get(name)
    if found is None:
        raise web.HTTPNotFound(reason="Gone", text="There is no such calendar.")
    typed = {"name": name, "days": to_text(found.days)}
    return await _form(request, typed, {}, stored=True, seen=stamp(found))


@requires("schedules.edit")
async def save(request: web.Request) -> web.Response:
    """Make a calendar, or replace the days that its form was shown with; who names it follows at once."""
    given = await request.post()
    typed = {key: str(given.get(key, "")).replace("\x00", "") for key in LABELS}
    stored, seen = given.get("stored") == "yes", str(given.get("seen", ""))
    async with reading(request) as db:
        year = (await clock.now(db)).year
    calendar, errors = read_calendar(typed, range(year - 1, year + YEARS_AHEAD))
    if calendar is None:
        return await _form(request, typed, errors, stored=stored, seen=seen)
    async with writing(request) as db:
        await runs.take_turn(db, f"calendar {calendar.name}")
        before = (await calendars.read(db, [calendar.name])).get(calendar.name)
        if not stored and calendar.name in await calendars.names(db):
            errors["name"] = TAKEN
        elif stored and before is None:
            errors["name"] = DELETED
        elif (
            before is not None and before.days != calendar.days and seen not in ("", stamp(before))
        ):
            errors["days"] = CHANGED
        if not errors:
            await calendars.save(db, calendar, by=session_of(request).name)
            await audit.record(
                request,
                db,
                "save calendar",
                target=calendar.name,
                before={"days": len(before.days)} if before else None,
                after={"days": len(calendar.days)},
            )
    if errors:
        now = stamp(before) if before else ""
        return await _form(
            request, typed, errors, stored=stored and before is not None, seen=now, status=409
        )
    raise web.HTTPSeeOther("/calendars")


@requires("schedules.edit")
async def delete(request: web.Request) -> web.Response:
    """Delete a calendar that no schedule names."""
    name = request.match_info["name"]
    async with writing(request) as db:
        users = await calendars.remove(db, name)
        await audit.record(
            request,
            db,
            "delete calendar",
            target=name,
            done=not users,
        )
        found = (await calendars.read(db, [name])).get(name)
    if users and found is not None:
        said = {"name": f"take it out of {', '.join(users)} first"}
        typed = {"name": name, "days": to_text(found.days)}
        return await _form(request, typed, said, stored=True, seen=stamp(found), status=409)
    raise web.HTTPSeeOther("/calendars")


def read_calendar(typed: Mapping[str, str], years: range) -> tuple[Holidays | None, dict[str, str]]:
    """Read a form, whose days are lines of date and title, or an iCalendar text."""
    name, text = typed["name"].strip(), typed["days"].strip()
    try:
        if not text:
            raise CronError("give a day on each line, or paste an iCalendar text", "holidays")
        if text.upper().startswith(ICAL):
            return read_holidays(text, name=name, years=years), {}
        return Holidays(name=name, days=dict(map(_read_day, _numbered(text)))), {}
    except CronError as error:
        return None, {"name" if "names no calendar" in str(error) else "days": str(error)}


def to_text(days: Mapping[date, str]) -> str:
    """Give one line for each day."""
    return "\n".join(f"{day} {title}".rstrip() for day, title in sorted(days.items()))


def stamp(calendar: Holidays) -> str:
    """Give what tells these days from others, for their form to send back."""
    return digest(to_text(calendar.days)).hex()[:16]


def calendar_path(name: str, *parts: str) -> str:
    return "/".join(["/calendars", quote(name, safe=""), *parts])


def _numbered(text: str) -> list[tuple[int, str]]:
    return [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _read_day(numbered: tuple[int, str]) -> tuple[date, str]:
    number, line = numbered
    day, _, title = line.strip().partition(" ")
    try:
        return date.fromisoformat(day), title.strip()
    except ValueError as error:
        raise CronError(
            f"line {number}: {day[:20]!r} is no date: write 2026-12-25 Christmas", "holidays"
        ) from error


async def _form(
    request: web.Request,
    typed: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    stored: bool = False,
    seen: str = "",
    status: int = 422,
) -> web.Response:
    async with reading(request) as db:
        shell = await look_around(db)
    return page(
        request,
        "calendar.html",
        status=status if errors else 200,
        shell=shell,
        typed=typed,
        errors=errors,
        labels=LABELS,
        stored=stored,
        seen=seen,
        calendar_path=calendar_path,
        most_years=YEARS_AHEAD,
    )


ROUTES = [
    web.get("/calendars", show),
    web.get("/new-calendar", edit),
    web.post("/calendars", save),
    web.get("/calendars/{name:[^/]+}", edit),
    web.post("/calendars/{name:[^/]+}/delete", delete),
]
