"""Why did it not run? For any instant: the ticks around it, what became of each, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from aiohttp import web

from quarterjack import cron
from quarterjack.database import Connection
from quarterjack.model import Schedule
from quarterjack.queries import calendars, clock, explain
from quarterjack.queries.explain import Gap
from quarterjack.queries.runs import Tick
from quarterjack_admin.keys import reading
from quarterjack_admin.pages.schedule import find_schedule
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page
from quarterjack_admin.words import away, outcome, took

FIRST, LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
LATE = timedelta(seconds=1)
EXAMPLE = "give a time, such as 2026-11-24 08:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One tick, what became of it in words, and its job if there is one."""

    tick_at: datetime
    said: Sequence[str]
    job_id: int | None = None


@requires("view")
async def why(request: web.Request) -> web.Response:
    """Answer for the ticks at or around the instant that the address names."""
    typed = request.query.get("at", "").strip()[:40]
    async with reading(request) as db:
        shell = await look_around(db)
        schedule = await find_schedule(request, db)
        zone = _zone(schedule)
        at, error, said, answers = read_instant(typed, zone), None, "", list[Answer]()
        if at is not None:
            said, answers = await answer(db, schedule, at, await clock.now(db))
        elif typed:
            error = EXAMPLE
    return page(
        request,
        "why.html",
        status=422 if error else 200,
        shell=shell,
        schedule=schedule,
        typed=typed,
        error=error,
        zone=zone,
        at=at,
        said=said,
        answers=answers,
    )


async def answer(
    db: Connection, schedule: Schedule, at: datetime, now: datetime
) -> tuple[str, list[Answer]]:
    """Say what the version in force meant for an instant, and answer for the ticks around it."""
    version = await explain.in_force(db, schedule.id, at)
    if version is None:
        return (
            f"There was no such schedule then: it was made {away(schedule.inserted_at, now)}.",
            [],
        )
    try:
        timing = cron.Timing.of(version, await calendars.named(db, [version]))
    except cron.CronError as error:
        return f"Version {version.version} was in force, which cannot be read: {error}", []
    before, after = timing.prev_before(at + cron.MOMENT), timing.next_after(at)
    if before == at:
        return f"Version {version.version} has a tick at this instant.", [
            await _answer(db, schedule, at, now)
        ]
    said = f"Version {version.version} has no tick at this instant{_outside(timing, at)}."
    around = [tick for tick in (before, after) if tick is not None]
    return said, [await _answer(db, schedule, tick, now) for tick in around]


async def _answer(db: Connection, schedule: Schedule, tick_at: datetime, now: datetime) -> Answer:
    found = await explain.decision(db, schedule.id, tick_at)
    if found is None:
        begins = await explain.ledger_begins(db, schedule.id)
        said = undecided(schedule, tick_at, now, begins)
        until = now
    else:
        said, until = decided(found, tick_at), found.decided_at
    if tick_at < now and until - tick_at > LATE:
        said += [_gap(gap) for gap in await explain.gaps(db, tick_at, until)]
    said += [
        f"A failover of the database took back an earlier decision, job {each['job_id']}; it may have run as well."
        for each in await explain.losses(db, schedule.id, tick_at)
    ]
    return Answer(tick_at=tick_at, said=said, job_id=found.job_id if found else None)


def decided(found: Tick, tick_at: datetime) -> list[str]:
    """Say what the ledger knows of a tick."""
    why = f": {found.reason}" if found.reason else ""
    late = found.decided_at - tick_at
    when = f", {took(late)} late" if late > LATE and found.outcome == "enqueued" else ""
    return [f"{outcome(found.outcome).capitalize()}{when}{why}."]


def undecided(
    schedule: Schedule, tick_at: datetime, now: datetime, begins: datetime | None
) -> list[str]:
    """Say why the ledger does not know a tick."""
    if tick_at > now:
        return ["It is still to come."]
    if schedule.paused_at is not None and schedule.planned_from <= tick_at:
        return [f"Paused by {schedule.paused_by}: {schedule.paused_reason or 'no reason given'}."]
    if schedule.broken_reason is not None:
        return [f"The schedule is set aside: {schedule.broken_reason}."]
    if begins is not None and tick_at < begins:
        return ["The ledger does not reach back that far."]
    return ["No scheduler has decided it yet."]


def read_instant(text: str, zone: tzinfo) -> datetime | None:
    """Read a time, in the schedule's zone unless it says otherwise; None for anything else."""
    try:
        at = datetime.fromisoformat(text)
        at = (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return min(max(FIRST, at), LAST)


def _gap(gap: Gap) -> str:
    span = f"from {gap.since:%H:%M:%S} to {gap.until:%H:%M:%S} UTC"
    return f"No scheduler led {span}, for {took(gap.until - gap.since)}; then {gap.node} took over."


def _outside(timing: cron.Timing, at: datetime) -> str:
    if timing.start_at is not None and at < timing.start_at:
        return ", which is before its start"
    if timing.end_at is not None and at > timing.end_at:
        return ", which is after its end"
    return ""


def _zone(schedule: Schedule) -> tzinfo:
    try:
        return cron.zone(schedule.timezone)
    except cron.CronError:
        return UTC


ROUTES = [web.get("/schedules/{name}/why", why)]
