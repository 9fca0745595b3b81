"""Backfill: make the jobs of a past range on purpose; it shows what it would do, then starts, and can be stopped."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from quarterjack import channels, cron
from quarterjack.model import Schedule
from quarterjack.queries import backfills, calendars, clock, notifications
from quarterjack_admin import audit
from quarterjack_admin.forms import read_reason
from quarterjack_admin.keys import CONFIG, reading, session_of, writing
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.paging import read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page, schedule_path

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
FASTEST = 6_000
MOST = 100_000
SHOWN = 5
FIELDS = ("from", "to", "per_minute", "reason")
LABELS = {"from": "From", "to": "To", "per_minute": "Jobs a minute", "reason": "Reason"}
EDITED = "The schedule was edited meanwhile: look at what it would do now, and start again."
BUSY = "Another backfill of this schedule goes on. Stop it, or wait until it is done."


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for; both ends belong to the range."""

    from_at: datetime
    to_at: datetime
    per_minute: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a backfill would make: how many jobs, the first and the last of them, and how long that takes."""

    ticks: int
    first: Sequence[datetime]
    last: Sequence[datetime]
    lasts: timedelta


@requires("schedules.edit")
async def ask(request: web.Request) -> web.Response:
    """Ask for the range; once it is given, show what would be made."""
    async with reading(request) as db:
        schedule, now = await find_schedule(request, db), await clock.now(db)
        known = await calendars.named(db, [schedule])
    if "from" not in request.query:
        day = {"from": _shown(now - timedelta(days=1)), "to": _shown(now)}
        return await _form(request, {**day, "per_minute": "60", "reason": ""}, {})
    typed = _typed(request.query)
    order, errors = read_order(typed, now)
    found = await asyncio.to_thread(dry_run, schedule, known, order, errors) if order else None
    return await _form(request, typed, errors, found=found, status=422 if errors else 200)


@requires("schedules.edit")
async def start(request: web.Request) -> web.Response:
    """Start what the dry run showed; the same form sent twice starts one backfill."""
    given = await request.post()
    typed = _typed({name: str(given.get(name, "")) for name in FIELDS})
    request_id = str(given.get("request_id", ""))[:64] or secrets.token_hex(16)
    async with reading(request) as db:
        schedule, now = await find_schedule(request, db), await clock.now(db)
        known = await calendars.named(db, [schedule])
    order, errors = read_order(typed, now)
    found = await asyncio.to_thread(dry_run, schedule, known, order, errors) if order else None
    if order is None or found is None:
        return await _form(request, typed, errors, status=422)
    if given.get("version") != str(schedule.version):
        return await _form(request, typed, {}, found=found, problem=EDITED, status=409)
    if not await _start_once(request, request_id, schedule, order, found):
        return await _form(request, typed, {}, found=found, problem=BUSY, status=409)
    raise web.HTTPSeeOther(schedule_path(schedule.name) + "#backfills-title")


@requires("schedules.edit")
async def stop(request: web.Request) -> web.Response:
    """Stop a backfill; the jobs that it has made stay."""
    id, by = read_number(request.match_info["id"]), session_of(request).name
    async with writing(request) as db:
        schedule = await find_schedule(request, db)
        made = None
        if id is not None:
            made = await backfills.stop(db, id, schedule_id=schedule.id, by=by)
        await audit.record(
            request,
            db,
            "stop backfill",
            target=schedule.name,
            after={"backfill": id, "made": made},
            done=made is not None,
        )
    raise web.HTTPSeeOther(schedule_path(schedule.name) + "#backfills-title")


def read_order(typed: Mapping[str, str], now: datetime) -> tuple[Order | None, dict[str, str]]:
    """Read what was typed; without an order, what is wrong by field."""
    errors = {}
    from_at, to_at = _read_time(typed["from"]), _read_time(typed["to"])
    number = read_number(typed["per_minute"])
    if from_at is None or from_at < EARLIEST:
        errors["from"] = "give a time from 2000 on, such as 2026-11-24T08:00"
    if to_at is None:
        errors["to"] = "give a time, such as 2026-11-24T09:00"
    elif to_at > now:
        errors["to"] = "it lies in the future, which the schedule makes by itself"
    elif from_at is not None and from_at >= to_at:
        errors["to"] = "the range ends before it begins"
    if number is None or not 1 <= number <= FASTEST:
        errors["per_minute"] = f"give a number from 1 to {FASTEST}"
    if not typed["reason"]:
        errors["reason"] = "say why: others will want to know"
    if errors or from_at is None or to_at is None or number is None:
        return None, errors
    order = Order(from_at=from_at, to_at=to_at, per_minute=number, reason=typed["reason"])
    return order, {}


def dry_run(
    schedule: Schedule,
    calendars: Mapping[str, cron.Holidays],
    order: Order,
    errors: dict[str, str],
) -> DryRun | None:
    """Count the ticks of the range; None, and what is wrong among `errors`, if it cannot be backfilled."""
    try:
        timing = cron.Timing.of(schedule, calendars)
    except cron.CronError as error:
        errors["from"] = f"the schedule cannot be read: {error}"
        return None
    count, first, last = 0, list[datetime](), deque[datetime](maxlen=SHOWN)
    for looked, tick in enumerate(timing.ticks(order.from_at, order.to_at)):
        if timing.blackout(tick) is None:
            count += 1
            (first if count <= SHOWN else last).append(tick)
        if looked == MOST:
            errors["to"] = f"the range holds more than {MOST} ticks; split it"
            return None
    if not count:
        errors["from"] = "the schedule has no run in this range"
        return None
    lasts = timedelta(minutes=count / order.per_minute)
    return DryRun(ticks=count, first=first, last=list(last), lasts=lasts)


async def _start_once(
    request: web.Request, request_id: str, schedule: Schedule, order: Order, found: DryRun
) -> bool:
    """Start it, unless this request did so before; False if another backfill goes on."""
    by = session_of(request).name
    async with writing(request) as db:
        id = await backfills.start(
            db,
            request_id=request_id,
            schedule_id=schedule.id,
            version=schedule.version,
            from_at=order.from_at,
            to_at=order.to_at,
            per_minute=order.per_minute,
            ticks=found.ticks,
            first=found.first[0],
            by=by,
            reason=order.reason,
        )
        if id is None and await backfills.of_request(db, request_id) is not None:
            return True
        span = {"from": order.from_at.isoformat(), "to": order.to_at.isoformat()}
        await audit.record(
            request,
            db,
            "start backfill",
            target=schedule.name,
            after={"backfill": id, **span, "per_minute": order.per_minute, "ticks": found.ticks},
            reason=order.reason,
            done=id is not None,
        )
        channel = channels.channel(request.app[CONFIG].database.schema, channels.SCHEDULES)
        told = json.dumps({"id": schedule.id, "version": schedule.version})
        await notifications.send(db, channel, told)
    return id is not None


async def _form(
    request: web.Request,
    typed: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    found: DryRun | None = None,
    problem: str | None = None,
    status: int = 200,
) -> web.Response:
    async with reading(request) as db:
        shell = await look_around(db)
        schedule = await find_schedule(request, db)
    return page(
        request,
        "backfill.html",
        status=status,
        shell=shell,
        schedule=schedule,
        typed=typed,
        errors=errors,
        labels=LABELS,
        found=found,
        problem=problem,
        request_id=secrets.token_hex(16),
    )


def _typed(given: Mapping[str, str]) -> dict[str, str]:
    typed = {name: given.get(name, "").strip().replace("\x00", "") for name in FIELDS}
    return typed | {"reason": read_reason(typed)}


def _read_time(text: str) -> datetime | None:
    """Read a time, in UTC unless it says otherwise; None for anything else."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M}"


ROUTES = [
    web.get("/schedules/{name}/backfill", ask),
    web.post("/schedules/{name}/backfill", start),
    web.post("/schedules/{name}/backfill/{id}/stop", stop),
]
