"""Make a schedule for something that workers can run, and delete one."""

from aiohttp import web

from quarterjack.definition import NAME, NAME_RULE
from quarterjack.model import JobType
from quarterjack.queries import calendars, schedules
from quarterjack_admin import audit, forms
from quarterjack_admin.keys import reading, session_of, writing
from quarterjack_admin.pages.edit import form_page, look_around_form, read_typed
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page, schedule_path

OFFERED = 1_000
TAKEN = "a schedule has this name already"


@requires("schedules.edit")
async def show(request: web.Request) -> web.Response:
    """Show the form, filled with the defaults of the job that the address names."""
    worker = request.query.get("worker", "")[:127]
    async with reading(request) as db:
        job_type = await schedules.job_type(db, worker)
    typed = forms.defaults(job_type)
    return await _form(request, typed | {"name": "", "worker": worker}, job_type, {})


@requires("schedules.edit")
async def make(request: web.Request) -> web.Response:
    """Make the schedule; it is planned from now on."""
    given = await request.post()
    typed, reason = await read_typed(request)
    name, worker = (str(given.get(key, "")).strip() for key in ("name", "worker"))
    async with reading(request) as db:
        job_type = await schedules.job_type(db, worker)
        names = await calendars.names(db)
    form, errors = forms.read(typed, job_type, {}, names)
    if not NAME.fullmatch(name):
        errors["name"] = NAME_RULE
    if job_type is None:
        errors["worker"] = "no worker has registered such a job: choose one of the catalogue"
    typed |= {"name": name, "worker": worker}
    if form is None or errors or given.get("act") == "preview":
        return await _form(request, typed, job_type, errors, reason=reason)
    async with writing(request) as db:
        await schedules.give_reason(db, reason)
        made = await schedules.add(db, name, worker, form.columns(), by=session_of(request).name)
        await audit.record(
            request,
            db,
            "make schedule",
            target=name,
            after=forms.fields_of(made, job_type) if made else None,
            reason=reason,
            done=made is not None,
        )
    if made is None:
        return await _form(request, typed, job_type, {"name": TAKEN}, reason=reason)
    raise web.HTTPSeeOther(schedule_path(name))


@requires("schedules.edit")
async def ask_delete(request: web.Request) -> web.Response:
    """Say what deleting does."""
    async with reading(request) as db:
        shell = await look_around(db)
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
    seeded = job_type is not None and (job_type.schedule or {}).get("name") == schedule.name
    return page(request, "delete.html", shell=shell, schedule=schedule, seeded=seeded)


@requires("schedules.edit")
async def delete(request: web.Request) -> web.Response:
    """Delete a schedule; its jobs, ticks and versions stay."""
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
        await schedules.remove(db, schedule.id)
        await audit.record(
            request,
            db,
            "delete schedule",
            target=schedule.name,
            before=forms.fields_of(schedule, job_type),
        )
    raise web.HTTPSeeOther("/schedules")


async def _form(
    request: web.Request,
    typed: dict[str, str],
    job_type: JobType | None,
    errors: dict[str, str],
    *,
    reason: str = "",
) -> web.Response:
    async with reading(request) as db:
        around = await look_around_form(db, typed)
        workers = [each.worker for each in await schedules.job_types(db, limit=OFFERED)]
    return form_page(
        request,
        "new.html",
        around,
        job_type,
        typed,
        errors,
        name=typed["name"],
        workers=workers,
        reason=reason,
        name_rule=NAME_RULE,
    )


ROUTES = [
    web.get("/new-schedule", show),
    web.post("/new-schedule", make),
    web.get("/schedules/{name}/delete", ask_delete),
    web.post("/schedules/{name}/delete", delete),
]
