"""Edit a schedule: the form, its live preview, the save, and the page for two edits at once."""

from typing import Any

from aiohttp import web

from quarterjack.cron.zones import zone_names
from quarterjack.database import Connection
from quarterjack.model import JobType, Schedule
from quarterjack.queries import access, schedules
from quarterjack_admin import forms
from quarterjack_admin.forms import LABELS, fields_of
from quarterjack_admin.keys import POOL, reading, session_of, writing
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.paging import read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.preview import preview
from quarterjack_admin.render import look_around, page, schedule_path

PRESETS = (
    ("Every minute", "* * * * *"),
    ("Every 2 minutes", "*/2 * * * *"),
    ("Every 5 minutes", "*/5 * * * *"),
    ("Hourly", "0 * * * *"),
    ("Daily", "0 6 * * *"),
    ("Weekdays", "30 6 * * MON-FRI"),
    ("Weekly", "0 6 * * MON"),
)
LONGEST_REASON = 500


@requires("schedules.edit")
async def show(request: web.Request) -> web.Response:
    """Show the form with the present values."""
    async with reading(request) as db:
        schedule = await find_schedule(request, db)
    return await _form(request, schedule, fields_of(schedule))


@requires("view")
async def look_ahead(request: web.Request) -> web.Response:
    """Give the preview of what is typed; an error is shown in its place and stops nothing."""
    given = await request.post()
    now = await schedules.now(request.app[POOL])
    coming = preview(
        str(given.get("cron", ""))[:300],
        str(given.get("timezone", ""))[:100],
        _dst(str(given.get("dst", ""))),
        now,
    )
    return page(request, "_preview.html", coming=coming, now=now)


@requires("schedules.edit")
async def save(request: web.Request) -> web.Response:
    """Store a new version if nobody else has stored one meanwhile."""
    given, session = await request.post(), session_of(request)
    typed = {name: str(given.get(name, "")) for name in fields_of_names()}
    reason = str(given.get("reason", "")).strip()[:LONGEST_REASON]
    base = read_number(str(given.get("version", "")))
    async with reading(request) as db:
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
        base_fields = await _fields_at(db, schedule, base)
    form, errors = forms.read(typed, job_type)
    if form is None or base is None:
        return await _form(request, schedule, typed, errors=errors, reason=reason, base=base)
    async with writing(request) as db:
        held = await schedules.hold(db, schedule.name)
        conflict = held is None or held.version != base
        if held is not None and not conflict:
            await schedules.give_reason(db, reason)
            after = await schedules.update(db, held.id, form.columns(), by=session.name)
        else:
            after = None
        await access.record(
            db,
            actor=session.name,
            action="edit schedule",
            address=request.remote or "",
            target=schedule.name,
            before=fields_of(held) if held else None,
            after=fields_of(after) if after else typed,
            reason=reason,
            result="conflict" if conflict else "ok",
        )
    if conflict:
        return await _conflict(request, held, typed, base_fields, reason)
    raise web.HTTPSeeOther(schedule_path(schedule.name))


def fields_of_names() -> tuple[str, ...]:
    """Name the fields of the form, in their order."""
    return tuple(forms.ScheduleForm.model_fields)


async def _form(
    request: web.Request,
    schedule: Schedule,
    typed: dict[str, str],
    *,
    errors: dict[str, str] | None = None,
    reason: str = "",
    base: int | None = None,
) -> web.Response:
    async with reading(request) as db:
        shell = await look_around(db)
        job_type = await schedules.job_type(db, schedule.worker)
    return page(
        request,
        "edit.html",
        status=422 if errors else 200,
        shell=shell,
        schedule=schedule,
        job_type=job_type,
        typed=typed,
        errors=errors or {},
        reason=reason,
        base=base or schedule.version,
        labels=LABELS,
        presets=PRESETS,
        zones=sorted(zone_names()),
        coming=preview(typed["cron"], typed["timezone"], _dst(typed["dst"]), shell.now),
        now=shell.now,
        schema=_schema(job_type),
    )


async def _conflict(
    request: web.Request,
    held: Schedule | None,
    typed: dict[str, str],
    base: dict[str, str],
    reason: str,
) -> web.Response:
    """Show both versions beside what they began with; nothing is saved."""
    if held is None:
        raise web.HTTPNotFound(reason="Gone", text="The schedule was deleted meanwhile.")
    theirs = fields_of(held)
    rows = [
        {
            "name": name,
            "base": base.get(name, "–"),
            "mine": typed[name],
            "theirs": theirs[name],
            "differs": _same(typed[name]) != _same(theirs[name]),
        }
        for name in fields_of_names()
        if not _same(typed[name]) == _same(theirs[name]) == _same(base.get(name, typed[name]))
    ]
    return page(
        request,
        "conflict.html",
        status=409,
        schedule=held,
        rows=rows,
        typed=typed,
        reason=reason,
        labels=LABELS,
    )


async def _fields_at(db: Connection, schedule: Schedule, number: int | None) -> dict[str, str]:
    """Give the form as it was in a version; empty if that is forgotten."""
    version = await schedules.version(db, schedule.id, number) if number is not None else None
    if version is None:
        return {}
    known: dict[str, Any] = version.definition
    names = ("cron", "timezone", "dst", "queue", "catchup", "overlap", "description")
    return {name: str(known[name]) for name in names if name in known} | {
        name: str(known[name])
        for name in ("priority", "max_attempts", "catchup_limit")
        if name in known
    }


def _same(text: str) -> str:
    return "".join(text.split())


def _dst(text: str) -> str:
    return text if text in ("once", "skip", "both") else "once"


def _schema(job_type: JobType | None) -> dict[str, Any] | None:
    """Give the properties that args may have, to be shown beside the field."""
    if job_type is None:
        return None
    properties = job_type.args_schema.get("properties")
    return properties if isinstance(properties, dict) and properties else None


ROUTES = [
    web.get("/schedules/{name}/edit", show),
    web.post("/schedules/{name}/edit", save),
    web.post("/schedules/{name}/preview", look_ahead),
]
