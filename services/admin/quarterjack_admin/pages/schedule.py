"""One schedule: what it means, when it runs, how it did, what changed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.definition import Definition
from quarterjack.model import Schedule
from quarterjack.queries import backfills, calendars, cluster, managed, runs, schedules, shown
from quarterjack.redaction import redact, scrub
from quarterjack_admin import standing
from quarterjack_admin.keys import reading
from quarterjack_admin.ownership import owner
from quarterjack_admin.paging import Page, read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.preview import preview
from quarterjack_admin.render import look_around, page
from quarterjack_admin.words import clock, in_line

PAGE = 20
BACKFILLS = 5
CHART = 60
CHANGES = 20
FOLLOWED = (*Definition.model_fields, "uniqueness", "worker", "paused_at", "resume_at")


async def find_schedule(request: web.Request, db: Connection) -> Schedule:
    """Read the schedule of the address, or answer that there is none."""
    schedule = await schedules.find(db, request.match_info["name"])
    if schedule is None:
        raise web.HTTPNotFound(reason="Gone", text="There is no such schedule. It may be deleted.")
    return schedule


@requires("view")
async def show(request: web.Request) -> web.Response:
    """Show a schedule and a page of its runs."""
    async with reading(request) as db:
        shell = await look_around(db)
        schedule = await find_schedule(request, db)
        listed = await _list_runs(db, schedule.name, request.query)
        known = await calendars.named(db, [schedule])
        jobs = await shown.read(db, listed.ids)
        latest = (await runs.latest(db, [schedule.name], each=CHART))[schedule.name]
        missed = await runs.not_enqueued(db, schedule.id, limit=PAGE)
        versions = await schedules.versions(db, schedule.id, limit=CHANGES + 1)
        job_type = await schedules.job_type(db, schedule.worker)
        lease = await cluster.lease(db)
        said = await managed.of(db, [schedule.id])
        filled = await backfills.of_schedule(db, schedule.id, limit=BACKFILLS)
    hidden = job_type.redacted if job_type else ()
    return page(
        request,
        "schedule.html",
        shell=shell,
        schedule=schedule,
        meaning=standing.meaning(schedule, known),
        standing=standing.status(schedule, shell.now, led=lease is not None and lease.led),
        applied=standing.applied(schedule),
        owner=owner(schedule, said, versions, job_type),
        coming=preview(schedule, known, shell.now),
        chart=standing.chart(latest),
        warning=_warning(jobs),
        jobs=jobs,
        trigger=standing.trigger,
        listed=listed,
        missed=missed,
        backfills=filled,
        changes=_changes(versions, hidden),
        job_type=job_type,
        args=redact(schedule.args, hidden),
        error_of=lambda job: scrub(str(job.errors[-1].get("error", "")).partition("\n")[0])[:300],
    )


async def _list_runs(db: Connection, name: str, query: Mapping[str, str]) -> Page:
    """Find the page of a schedule's jobs that the address asks for."""
    before, after = read_number(query.get("before")), read_number(query.get("after"))
    if after is not None:
        return Page.backwards(
            await runs.of_schedule_back(db, name, edge=after, limit=PAGE + 1), PAGE
        )
    ids = await runs.of_schedule(db, name, edge=before, limit=PAGE + 1)
    return Page.forwards(ids, PAGE, first=before is None)


def _warning(jobs: list[Any]) -> str | None:
    """Give what the newest run that ended had to warn about."""
    for job in jobs:
        if job.state == "completed":
            text = job.meta.get("warning")
            return text if isinstance(text, str) else None
    return None


def _changes(versions: list[schedules.Version], hidden: Sequence[str]) -> list[dict[str, Any]]:
    """Pair each version with the one before it."""
    changes = []
    for version, before in zip(versions, [*versions[1:], None], strict=True):
        old = before.definition if before else {}
        fields = [
            {
                "name": name,
                "old": _shown(name, old.get(name), hidden),
                "new": _shown(name, version.definition.get(name), hidden),
            }
            for name in FOLLOWED
            if before and old.get(name) != version.definition.get(name)
        ]
        changes.append({"version": version, "fields": fields, "first": version.version == 1})
    return changes[:CHANGES]


def _shown(name: str, value: Any, hidden: Sequence[str]) -> str:
    """Give a value of a version for a person: times in UTC, no secrets."""
    if name.endswith("_at") and isinstance(value, str):
        return clock(datetime.fromisoformat(value), datetime.fromtimestamp(0, UTC))
    return in_line(redact(value, hidden if name == "args" else ()))


ROUTES = [web.get("/schedules/{name}", show)]
