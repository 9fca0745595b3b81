"""Cancel, retry and delete the jobs that a filter of Runs finds: counted first, then done, bounded and recorded."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.model import INCOMPLETE, JobState
from quarterjack.queries import bulk, job_lists
from quarterjack.queries.bulk import MOST, Chosen
from quarterjack_admin import audit
from quarterjack_admin.forms import read_reason
from quarterjack_admin.keys import reading, writing
from quarterjack_admin.pages.runs import WINDOW, Filter, write_done
from quarterjack_admin.paging import read_number
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What is done to jobs in one of `states`."""

    name: str
    states: tuple[JobState, ...]
    effect: str
    do: Callable[[Connection, Sequence[int]], Awaitable[int]]


CANCEL = Action(
    name="cancel",
    states=INCOMPLETE,
    effect="Those that wait are cancelled. Those that run are asked to stop.",
    do=bulk.cancel,
)
RETRY = Action(
    name="retry",
    states=(JobState.RETRYABLE, JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED),
    effect="Each becomes available at once, under its own id, with at least one more attempt.",
    do=bulk.retry,
)
DELETE = Action(
    name="delete",
    states=tuple(state for state in JobState if state is not JobState.EXECUTING),
    effect="They are gone, with their errors and results. Those that run are left.",
    do=bulk.delete,
)


@requires("jobs.cancel")
async def ask_cancel(request: web.Request) -> web.Response:
    """Count what would be cancelled."""
    return await _ask(request, CANCEL)


@requires("jobs.cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel what was counted."""
    return await _act(request, CANCEL)


@requires("jobs.retry")
async def ask_retry(request: web.Request) -> web.Response:
    """Count what would be retried."""
    return await _ask(request, RETRY)


@requires("jobs.retry")
async def retry(request: web.Request) -> web.Response:
    """Retry what was counted."""
    return await _act(request, RETRY)


@requires("jobs.delete")
async def ask_delete(request: web.Request) -> web.Response:
    """Count what would be deleted."""
    return await _ask(request, DELETE)


@requires("jobs.delete")
async def delete(request: web.Request) -> web.Response:
    """Delete what was counted."""
    return await _act(request, DELETE)


async def _ask(
    request: web.Request, action: Action, *, given: Mapping[str, str] | None = None
) -> web.Response:
    """Show how many there are; a second look counts the same ids as the first."""
    wanted = Filter.of(request.query if given is None else given)
    async with reading(request) as db:
        shell = await look_around(db)
        newest = await job_lists.newest(db)
        upto = (given and read_number(given.get("upto", ""))) or newest
        chosen = choose(wanted, action, upto)
        found = await bulk.count(db, chosen)
    return page(
        request,
        "bulk.html",
        status=200 if given is None else 422,
        shell=shell,
        wanted=wanted,
        action=action,
        states=chosen.states,
        upto=upto,
        found=found,
        most=MOST,
        window=WINDOW if wanted.windowed and upto > WINDOW else None,
        problem=None if given is None else "Say why: others will want to know.",
    )


async def _act(request: web.Request, action: Action) -> web.Response:
    """Act on ids up to the newest that was counted: what came later was not seen by who decided."""
    given = {name: str(value) for name, value in (await request.post()).items()}
    wanted, upto = Filter.of(given), read_number(given.get("upto", ""))
    reason = read_reason(given)
    if not reason or upto is None:
        return await _ask(request, action, given=given)
    async with writing(request) as db:
        done = await action.do(db, await bulk.pick(db, choose(wanted, action, upto)))
        await audit.record(
            request,
            db,
            f"{action.name} jobs",
            target=wanted.address(),
            after={"jobs": done, "upto": upto},
            reason=reason,
            done=done > 0,
        )
    raise web.HTTPSeeOther(wanted.address(done=write_done(request, f"{action.name} {done}")))


def choose(wanted: Filter, action: Action, upto: int) -> Chosen:
    """Give what a filter and an action mean; a filter that no index serves reaches back WINDOW ids, as on the page."""
    states = [state for state in action.states if wanted.state in (None, state)]
    return Chosen(
        states=states,
        worker=wanted.worker,
        queue=wanted.queue,
        above=max(0, upto - WINDOW) if wanted.windowed else 0,
        upto=upto,
    )


ROUTES = [
    web.get("/jobs/all/cancel", ask_cancel),
    web.post("/jobs/all/cancel", cancel),
    web.get("/jobs/all/retry", ask_retry),
    web.post("/jobs/all/retry", retry),
    web.get("/jobs/all/delete", ask_delete),
    web.post("/jobs/all/delete", delete),
]
