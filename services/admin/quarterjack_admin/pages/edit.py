"""Edit a schedule: the form, its live preview, the save, and the page for two edits at once."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from quarterjack.cron import Holidays
from quarterjack.cron.timing import MOST_CALENDARS
from quarterjack.cron.zones import zone_names
from quarterjack.database import Connection
from quarterjack.definition import Definition
from quarterjack.model import JobType, Schedule
from quarterjack.queries import calendars, clock, managed, schedules
from quarterjack_admin import audit, forms
from quarterjack_admin.forms import LABELS, fields_of
from quarterjack_admin.keys import reading, session_of, writing
from quarterjack_admin.ownership import owner
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.paging import read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.preview import preview_typed
from quarterjack_admin.render import Shell, look_around, page, schedule_path

PRESETS = (
    ("Every minute", "* * * * *"),
    ("Every 2 minutes", "*/2 * * * *"),
    ("Every 5 minutes", "*/5 * * * *"),
    ("Hourly", "0 * * * *"),
    ("Daily", "0 6 * * *"),
    ("Weekdays", "30 6 * * MON-FRI"),
    ("Weekly", "0 6 * * MON"),
)
LIMITS = ("start_at", "end_at", "blackouts", "calendars")
FIELDS = tuple(Definition.model_fields)


@requires("schedules.edit")
async def show(request: web.Request) -> web.Response:
    """Show the form with the present values."""
    async with reading(request) as db:
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
    return await _form(request, schedule, job_type, fields_of(schedule, job_type))


@requires("view")
async def look_ahead(request: web.Request) -> web.Response:
    """Give the preview of what is typed; an error is shown in its place and stops nothing."""
    typed, _ = await read_typed(request)
    name = str((await request.post()).get("name", ""))[:127]
    async with reading(request) as db:
        now, known = await clock.now(db), await _typed_calendars(db, typed)
    coming = preview_typed(typed, known, now, name=name)
    return page(request, "_preview.html", coming=coming, now=now)


@requires("schedules.edit")
async def save(request: web.Request) -> web.Response:
    """Store a new version if nobody else has stored one meanwhile."""
    typed, reason = await read_typed(request)
    base = read_number(str((await request.post()).get("version", "")))
    async with reading(request) as db:
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
        base_fields = await _fields_at(db, schedule, job_type, base)
        names = await calendars.names(db)
    form, errors = forms.read(typed, job_type, schedule.args, names)
    preview_only = (await request.post()).get("act") == "preview"
    if form is None or base is None or preview_only:
        return await _form(
            request, schedule, job_type, typed, errors=errors, reason=reason, base=base
        )
    async with writing(request) as db:
        held = await schedules.hold(db, schedule.name)
        after = None
        if held is not None and held.version == base:
            await schedules.give_reason(db, reason)
            after = await schedules.update(db, held.id, form.columns(), by=session_of(request).name)
        await audit.record(
            request,
            db,
            "edit schedule",
            target=schedule.name,
            before=fields_of(held, job_type) if held else None,
            after=fields_of(after, job_type) if after else forms.texts(form, job_type),
            reason=reason,
            done=after is not None,
        )
    if after is None:
        return _conflict(request, held, job_type, typed, base_fields, reason)
    raise web.HTTPSeeOther(schedule_path(schedule.name))


@requires("schedules.edit")
async def restore(request: web.Request) -> web.Response:
    """Show the form filled with an earlier version; nothing is saved before it is looked at."""
    number = read_number(request.query.get("version"))
    async with reading(request) as db:
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
        old = await schedules.version(db, schedule.id, number) if number is not None else None
    if old is None:
        raise web.HTTPNotFound(reason="Gone", text="There is no such version. It may be forgotten.")
    typed = fields_of(schedule, job_type) | forms.fields_of_version(old.definition, job_type)
    return await _form(request, schedule, job_type, typed, reason=f"Restore version {old.version}")


async def read_typed(request: web.Request) -> tuple[dict[str, str], str]:
    """Give the fields of a schedule's form as they were typed, and the reason."""
    given = await request.post()
    typed = {name: str(given.get(name, "")) for name in FIELDS}
    typed["calendars"] = "\n".join(map(str, given.getall("calendars", [])))
    return typed, forms.read_reason(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a form is shown with."""

    shell: Shell
    calendar_names: list[str]
    calendars: dict[str, Holidays]


async def look_around_form(db: Connection, typed: dict[str, str]) -> Around:
    """Read what the form offers, and the calendars that it names."""
    return Around(
        shell=await look_around(db),
        calendar_names=await calendars.names(db),
        calendars=await _typed_calendars(db, typed),
    )


async def _typed_calendars(db: Connection, typed: dict[str, str]) -> dict[str, Holidays]:
    return await calendars.read(db, typed["calendars"].splitlines()[:MOST_CALENDARS])


def form_page(
    request: web.Request,
    template: str,
    around: Around,
    job_type: JobType | None,
    typed: dict[str, str],
    errors: dict[str, str],
    *,
    name: str,
    **context: Any,
) -> web.Response:
    """Render a page with the fields of a schedule and what they mean."""
    return page(
        request,
        template,
        status=422 if errors else 200,
        shell=around.shell,
        job_type=job_type,
        typed=typed,
        errors=errors,
        labels=LABELS,
        presets=PRESETS,
        zones=sorted(zone_names()),
        calendars=around.calendar_names,
        limited=any(typed[each] or each in errors for each in LIMITS) or typed["jitter"] != "0s",
        coming=preview_typed(typed, around.calendars, around.shell.now, name=name),
        now=around.shell.now,
        properties=forms.properties_of(job_type),
        **context,
    )


async def _form(
    request: web.Request,
    schedule: Schedule,
    job_type: JobType | None,
    typed: dict[str, str],
    *,
    errors: dict[str, str] | None = None,
    reason: str = "",
    base: int | None = None,
) -> web.Response:
    async with reading(request) as db:
        around = await look_around_form(db, typed)
        said = await managed.of(db, [schedule.id])
    return form_page(
        request,
        "edit.html",
        around,
        job_type,
        typed,
        errors or {},
        name=schedule.name,
        schedule=schedule,
        owner=owner(schedule, said),
        reason=reason,
        base=base or schedule.version,
    )


def _conflict(
    request: web.Request,
    held: Schedule | None,
    job_type: JobType | None,
    typed: dict[str, str],
    base: dict[str, str],
    reason: str,
) -> web.Response:
    """Show both versions beside what they began with; nothing is saved."""
    if held is None:
        raise web.HTTPNotFound(reason="Gone", text="The schedule was deleted meanwhile.")
    theirs = fields_of(held, job_type)
    rows = [
        {
            "name": name,
            "base": base.get(name, "–"),
            "mine": typed[name],
            "theirs": theirs[name],
            "differs": _same(typed[name]) != _same(theirs[name]),
        }
        for name in FIELDS
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


async def _fields_at(
    db: Connection, schedule: Schedule, job_type: JobType | None, number: int | None
) -> dict[str, str]:
    """Give the fields of the form as they were in a version; empty if that is forgotten."""
    version = await schedules.version(db, schedule.id, number) if number is not None else None
    return forms.fields_of_version(version.definition, job_type) if version else {}


def _same(text: str) -> str:
    return "".join(text.split())


ROUTES = [
    web.get("/schedules/{name}/edit", show),
    web.post("/schedules/{name}/edit", save),
    web.get("/schedules/{name}/restore", restore),
    web.post("/preview", look_ahead),
]
