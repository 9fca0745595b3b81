"""Limits of a queue over all nodes: jobs at once and jobs in a time, for all jobs or for each value of an args key."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta

from aiohttp import web

from quarterjack import durations
from quarterjack.queries import limits, runs
from quarterjack.queries.limits import Limits
from quarterjack_admin import audit
from quarterjack_admin.forms import read_reason
from quarterjack_admin.keys import session_of, writing
from quarterjack_admin.pages.queues import (
    LONGEST_NAME,
    limit_texts,
    queue_path,
    show_queue,
    stamp,
)
from quarterjack_admin.permissions import requires

LARGEST = 1_000_000
LONGEST_KEY = 127
SHORTEST_PERIOD, LONGEST_PERIOD = timedelta(milliseconds=1), timedelta(days=31)
FIELDS = ("global_limit", "rate_limit", "rate_period", "rate_burst", "partition_by", "reason")


@requires("queues.scale")
async def save(request: web.Request) -> web.Response:
    """Set the limits, if they are those that the form was shown with; empty fields are none."""
    given, queue = await request.post(), request.match_info["name"]
    typed = {name: str(given.get(name, "")).strip().replace("\x00", "") for name in FIELDS}
    try:
        wanted = read(typed)
        if not typed["reason"]:
            raise ValueError("Say why: others will want to know.")
        if not 0 < len(queue) <= LONGEST_NAME:
            raise ValueError(f"A queue has a name of 1 to {LONGEST_NAME} characters.")
    except ValueError as error:
        return await show_queue(request, problem=str(error), typed=typed)
    async with writing(request) as db:
        await runs.take_turn(db, f"limits of {queue}")
        before = await limits.read(db, queue)
        shown = stamp(limit_texts(before))
        held = before == wanted or given.get("seen", shown) == shown
        if held:
            by, reason = session_of(request).name, read_reason(typed)
            await limits.limit(db, queue, wanted, by=by, reason=reason)
            await audit.record(
                request,
                db,
                "limit queue",
                target=queue,
                before=_stored(before),
                after=_stored(wanted),
                reason=reason,
            )
    if not held:
        said = "Someone set other limits meanwhile, which stand below. Nothing was changed."
        return await show_queue(request, problem=said, typed=typed)
    raise web.HTTPSeeOther(queue_path(queue))


def read(typed: Mapping[str, str]) -> Limits:
    """Read a form; ValueError says what is wrong with it."""
    limits = Limits(
        global_limit=_number("Jobs at once", typed["global_limit"]),
        rate_limit=_number("Jobs to start", typed["rate_limit"]),
        rate_period=_period(typed["rate_period"]),
        rate_burst=_number("The burst", typed["rate_burst"]),
        partition_by=typed["partition_by"] or None,
    )
    if len(typed["partition_by"]) > LONGEST_KEY:
        raise ValueError(f"The key of args has at most {LONGEST_KEY} characters.")
    if (limits.rate_limit is None) is not (limits.rate_period is None):
        raise ValueError("A rate is a number of jobs and a time, such as 100 in 1m: give both.")
    if limits.rate_burst and not limits.rate_limit:
        raise ValueError("A burst belongs to a rate: give the rate, or leave the burst empty.")
    if limits.partition_by and not (limits.global_limit or limits.rate_limit):
        raise ValueError(
            "There is no limit to have for each value: give one, or leave the key empty."
        )
    return limits


def _number(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isdecimal() and len(text) < 8 and 0 < int(text) <= LARGEST):
        raise ValueError(f"{name}: {text[:20]!r} is not a number from 1 to {LARGEST}.")
    return int(text)


def _period(text: str) -> timedelta | None:
    if not text:
        return None
    period = durations.read(text)
    if not SHORTEST_PERIOD <= period <= LONGEST_PERIOD:
        raise ValueError(f"The time of a rate is {text[:20]!r}: give 1 ms to 31 days, such as 1m.")
    return period


def _stored(limits: Limits) -> dict[str, object]:
    period = limits.rate_period
    return asdict(limits) | {"rate_period": None if period is None else period.total_seconds()}


ROUTES = [web.post("/queues/{name:[^/]+}/limits", save)]
