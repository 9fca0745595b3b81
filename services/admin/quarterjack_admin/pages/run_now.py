"""Run now: one job of a schedule, or of anything that workers can run; it asks first and acts once."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

import quarterjack
from quarterjack.database import Connection
from quarterjack.model import Enqueued, JobType, Schedule
from quarterjack.queries import runs, schedules
from quarterjack.unique import Unique
from quarterjack_admin import audit, forms
from quarterjack_admin.keys import TRACEPARENT, reading, session_of, writing
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.permissions import may, requires
from quarterjack_admin.render import look_around, page, schedule_path

RECENT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The job that Run now makes, and where its page is; `unique` as a tick's job would have it."""

    target: str
    worker: str
    args: dict[str, Any]
    queue: str
    priority: int
    max_attempts: int
    tags: list[str]
    unique: Unique | None
    path: str
    meta: dict[str, Any] = field(default_factory=dict)


@requires("jobs.run")
async def ask_schedule(request: web.Request) -> web.Response:
    """Say what running this schedule now would do."""
    async with reading(request) as db:
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
        typed = forms.args_text(schedule.args, job_type)
        return await _ask(
            request, db, _of_schedule(schedule, job_type, schedule.args), job_type, typed
        )


@requires("jobs.run")
async def run_schedule(request: web.Request) -> web.Response:
    """Enqueue one job of this schedule, with the arguments that were typed; it moves no tick."""
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        job_type = await schedules.job_type(db, schedule.worker)
        typed = await _typed(request)
        args, problem = forms.read_args(typed, job_type, schedule.args)
        order = _of_schedule(schedule, job_type, args)
        if problem:
            return await _ask(request, db, order, job_type, typed, problem=problem)
        made = await _enqueue_once(request, db, order)
    return _answer(request, order, made)


@requires("jobs.run")
async def ask_type(request: web.Request) -> web.Response:
    """Ask for the arguments of a job that workers can run."""
    async with reading(request) as db:
        job_type = await _find_type(request, db)
        return await _ask(request, db, _of_type(job_type, {}), job_type, "{}")


@requires("jobs.run")
async def run_type(request: web.Request) -> web.Response:
    """Enqueue one job with the arguments that were typed."""
    typed = await _typed(request)
    async with writing(request) as db:
        job_type = await _find_type(request, db)
        args, problem = forms.read_args(typed, job_type, {})
        order = _of_type(job_type, args)
        if problem:
            return await _ask(request, db, order, job_type, typed, problem=problem)
        made = await _enqueue_once(request, db, order)
    return _answer(request, order, made)


async def _typed(request: web.Request) -> str:
    return str((await request.post()).get("args", ""))


async def _find_type(request: web.Request, db: Connection) -> JobType:
    job_type = await schedules.job_type(db, request.query.get("worker", ""))
    if job_type is None:
        raise web.HTTPNotFound(reason="Gone", text="No worker has registered such a job.")
    return job_type


def _of_schedule(schedule: Schedule, job_type: JobType | None, args: dict[str, Any]) -> Order:
    stored = schedule.uniqueness or (job_type.uniqueness if job_type else None)
    return Order(
        target=schedule.name,
        worker=schedule.worker,
        args=args,
        queue=schedule.queue,
        priority=schedule.priority,
        max_attempts=schedule.max_attempts,
        tags=schedule.tags,
        unique=Unique.from_json(stored) if stored else None,
        path=schedule_path(schedule.name),
        meta={
            "cron_name": schedule.name,
            "cron_expr": schedule.cron,
            "cron_tz": schedule.timezone,
            "schedule_id": schedule.id,
            "schedule_version": schedule.version,
        },
    )


def _of_type(job_type: JobType, args: dict[str, Any]) -> Order:
    return Order(
        target=job_type.worker,
        worker=job_type.worker,
        args=args,
        queue=job_type.queue,
        priority=job_type.priority,
        max_attempts=job_type.max_attempts,
        tags=job_type.tags,
        unique=Unique.from_json(job_type.uniqueness) if job_type.uniqueness else None,
        path="/catalogue",
    )


async def _ask(
    request: web.Request,
    db: Connection,
    order: Order,
    job_type: JobType | None,
    typed: str,
    *,
    problem: str | None = None,
) -> web.Response:
    name = order.meta.get("cron_name")
    latest = (await runs.latest(db, [name], each=RECENT))[name] if name else []
    return page(
        request,
        "run.html",
        status=422 if problem else 200,
        shell=await look_around(db),
        order=order,
        action=str(request.rel_url),
        properties=forms.properties_of(job_type),
        known=job_type is not None,
        running=[run for run in latest if run.ended_at is None],
        typed=typed,
        problem=problem,
        request_id=secrets.token_hex(16),
    )


async def _enqueue_once(request: web.Request, db: Connection, order: Order) -> Enqueued:
    """Enqueue; the same form sent twice makes one job."""
    given, session = await request.post(), session_of(request)
    request_id = str(given.get("request_id", ""))[:64]
    await runs.take_turn(db, f"run now {request_id}")
    earlier = await runs.of_request(db, request_id) if request_id else None
    if earlier is not None:
        return Enqueued(id=earlier)
    force = given.get("force") == "yes" and may(session.role, "jobs.run.force")
    traceparent = request.get(TRACEPARENT)
    made = await quarterjack.enqueue(
        db,
        order.worker,
        order.args,
        queue=order.queue,
        priority=order.priority,
        max_attempts=order.max_attempts,
        tags=order.tags,
        unique=None if force else order.unique,
        meta={
            **order.meta,
            "trigger": "manual",
            "triggered_by": session.name,
            "request_id": request_id,
            **({"traceparent": traceparent} if traceparent else {}),
        },
    )
    await audit.record(
        request,
        db,
        "run now",
        target=order.target,
        after={"job": made.id, "forced": force},
        done=not made.conflict,
    )
    return made


def _answer(request: web.Request, order: Order, made: Enqueued) -> web.Response:
    if made.conflict:
        return page(request, "refused.html", status=409, order=order, id=made.id)
    raise web.HTTPSeeOther(f"/jobs/{made.id}?from=run")


ROUTES = [
    web.get("/schedules/{name}/run", ask_schedule),
    web.post("/schedules/{name}/run", run_schedule),
    web.get("/catalogue/run", ask_type),
    web.post("/catalogue/run", run_type),
]
