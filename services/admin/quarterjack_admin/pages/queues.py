"""Queues: how each stands, and pause, resume, scale, stop and start, on one node or on all.

What is asked is kept, so that it outlives the workers, and told by Oban's own signals in the same transaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from aiohttp import web

from quarterjack import durations
from quarterjack.oban_web import NAME
from quarterjack.queries import cluster, limits, queues, runs
from quarterjack.queries.cluster import Producer
from quarterjack.queries.limits import Limits
from quarterjack.queries.queues import ALL, LARGEST_LIMIT, OWN_LIMIT, Change, Steered
from quarterjack_admin import audit
from quarterjack_admin.forms import read_reason
from quarterjack_admin.guard import digest
from quarterjack_admin.keys import reading, session_of, writing
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page

LONGEST_NAME = 127
EVERY = "*"
GONE = "?"
PAGE = 200
SILENT_AFTER = timedelta(seconds=5)
LATE_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a form asks for."""

    queue: str
    node: str
    change: Change
    reason: str


@requires("view")
async def show_all(request: web.Request) -> web.Response:
    """List the queues that have work or workers, or were steered."""
    after = request.query.get("after", "")[:LONGEST_NAME]
    async with reading(request) as db:
        shell = await look_around(db)
        standings = await queues.standings(db, after=after, limit=PAGE + 1)
    return page(
        request,
        "queues.html",
        shell=shell,
        standings=standings[:PAGE],
        after=after,
        more=len(standings) > PAGE,
        counted=queues.COUNTED,
        late_after=LATE_AFTER,
        queue_path=queue_path,
    )


@requires("view")
async def show(request: web.Request) -> web.Response:
    """Show one queue, node by node, and the forms that steer it."""
    return await show_queue(request)


@requires("view")
async def go_back(request: web.Request) -> web.Response:
    """Lead to the queue from where its forms are sent, as the address of a refused one is looked up again."""
    raise web.HTTPSeeOther(queue_path(request.match_info["name"]))


@requires("queues.pause")
async def pause(request: web.Request) -> web.Response:
    """Claim no more jobs; what runs goes on."""
    return await _steer(request, "pause queue", Change(paused=True))


@requires("queues.pause")
async def resume(request: web.Request) -> web.Response:
    """Claim again."""
    return await _steer(request, "resume queue", Change(paused=False))


@requires("queues.scale")
async def scale(request: web.Request) -> web.Response:
    """Set how many jobs each node runs at once; an empty limit is that of the worker's command line."""
    text = str((await request.post()).get("limit", "")).strip()
    if text and not (text.isdecimal() and len(text) < 6 and 0 < int(text) <= LARGEST_LIMIT):
        said = f"The limit is {text[:20]!r}: give 1 to {LARGEST_LIMIT}, or nothing for the worker's own."
        wish = await _read_wish(request, Change())
        return await show_queue(request, problem=said, wish=wish)
    return await _steer(request, "scale queue", Change(limit=int(text) if text else OWN_LIMIT))


@requires("queues.scale")
async def stop(request: web.Request) -> web.Response:
    """Take the queue from its workers; what runs goes on."""
    return await _steer(request, "stop queue", Change(stopped=True))


@requires("queues.scale")
async def start(request: web.Request) -> web.Response:
    """Give the queue back to its workers, as they were before."""
    return await _steer(request, "start queue", Change(stopped=False))


def queue_path(name: str, *parts: str) -> str:
    return "/".join(["/queues", quote(name, safe=""), *parts])


def signals(wish: Wish) -> list[str]:
    """Say it as Oban does, to every language; what Oban has no word for is learned from qj_queues within a second.

    There is no `start`: it would start the queue on Elixir nodes that never had it. And no key that is not Oban's: an
    Elixir node's queue does not survive one in a `scale`, and oban-py refuses a `stop`. Nor is a queue named EVERY told
    to pause or resume: every Oban would do so with all its queues.
    """
    change = wish.change
    said: dict[str, str | int | bool] = {}
    if change.paused is not None and wish.queue != EVERY:
        said = {"action": "pause" if change.paused else "resume"}
    elif change.stopped:
        said = {"action": "stop"}
    elif change.limit:
        said = {"action": "scale", "limit": change.limit}
    if not said:
        return []
    ident = "any" if wish.node == ALL else f"{NAME}.{wish.node}"
    return [json.dumps({**said, "queue": wish.queue, "ident": ident})]


async def _steer(request: web.Request, action: str, change: Change) -> web.Response:
    given, by = await request.post(), session_of(request).name
    wish, problem = await _read_wish(request, change), ""
    if not wish.reason:
        return await show_queue(request, problem="Say why: others will want to know.", wish=wish)
    if not 0 < len(wish.queue) <= LONGEST_NAME:
        raise web.HTTPNotFound(reason="Gone", text="There is no such queue.")
    async with writing(request) as db:
        await runs.take_turn(db, f"queue {wish.queue}")
        steered = await queues.steered(db, wish.queue)
        nodes = {each.node for each in await cluster.producers_of(db, wish.queue)}
        nodes |= {each.node for each in steered}
        if wish.node not in (ALL, *nodes):
            gone = wish.node == GONE
            who = (
                "The node that was chosen has gone"
                if gone
                else f"No worker {wish.node[:60]} has this queue"
            )
            problem = f"{who}. Nothing was changed: choose again."
        elif given.get("seen", stamp(asked(steered))) != stamp(asked(steered)):
            problem = "Somebody asked for something else meanwhile, see above. Nothing was changed."
        else:
            done = await queues.steer(
                db, wish.queue, change, node=wish.node, by=by, reason=wish.reason
            )
            await queues.signal(db, signals(wish))
            limit = {"limit": change.limit} if change.limit else {}
            await audit.record(
                request,
                db,
                action,
                target=wish.queue,
                after={"node": wish.node or "all"} | limit,
                reason=wish.reason,
                done=done,
            )
    if problem:
        return await show_queue(request, problem=problem, wish=wish)
    raise web.HTTPSeeOther(queue_path(wish.queue))


async def _read_wish(request: web.Request, change: Change) -> Wish:
    given = await request.post()
    return Wish(
        queue=request.match_info["name"],
        node=str(given.get("node", ALL)),
        change=change,
        reason=read_reason(given),
    )


async def show_queue(
    request: web.Request,
    *,
    problem: str | None = None,
    wish: Wish | None = None,
    typed: Mapping[str, str] | None = None,
) -> web.Response:
    """Show one queue; what was typed stands in its form again."""
    name = request.match_info["name"][:LONGEST_NAME]
    async with reading(request) as db:
        shell = await look_around(db)
        [standing] = await queues.standings(db, queue=name)
        steered = await queues.steered(db, name)
        limited = await limits.read(db, name)
        producers = await cluster.producers_of(db, name)
    by_node = {each.node: each for each in steered}
    everyone = by_node.get(ALL)
    rows = [_row(each, by_node) for each in producers]
    present = {ALL, *(each.node for each in producers)}
    return page(
        request,
        "queue.html",
        status=422 if problem else 200,
        shell=shell,
        standing=standing,
        everyone=everyone,
        rows=rows,
        following=sum(1 for row in rows if row["follows"]),
        absent=[each for each in steered if each.node not in present and words(each)],
        words=words,
        counted=queues.COUNTED,
        queue_path=queue_path,
        problem=problem,
        typed=typed or limit_texts(limited),
        limited=limited,
        stamp=stamp(limit_texts(limited)),
        asked=stamp(asked(steered)),
        wanted=(wish and wish.change.limit) or (everyone and everyone.local_limit) or "",
        reason=wish.reason if wish else "",
        node=wish.node if wish else ALL,
        gone=GONE,
    )


def _row(producer: Producer, by_node: Mapping[str, Steered]) -> dict[str, object]:
    """Give a worker, with what was asked of its node."""
    return {
        "producer": producer,
        "silent": producer.silent > SILENT_AFTER,
        "steered": by_node.get(producer.node),
        "follows": follows(producer, by_node.get(ALL), by_node.get(producer.node)),
    }


def words(steered: Steered) -> str:
    """Say what was asked of one node; nothing if what was asked of all has ended it."""
    said = [
        {True: "paused", False: "resumed", None: ""}[steered.paused],
        {True: "stopped", False: "started", None: ""}[steered.stopped],
        f"up to {steered.local_limit}" if steered.local_limit else "",
    ]
    return ", ".join(filter(None, said))


def limit_texts(limited: Limits) -> dict[str, str]:
    """Give limits as the texts of their form."""
    period = limited.rate_period
    numbers = (limited.global_limit, limited.rate_limit, limited.rate_burst)
    names = ("global_limit", "rate_limit", "rate_burst")
    return {name: str(number or "") for name, number in zip(names, numbers, strict=True)} | {
        "rate_period": durations.write(period) if period else "",
        "partition_by": limited.partition_by or "",
        "reason": "",
    }


def asked(steered: Sequence[Steered]) -> dict[str, str]:
    """Give what was asked of each node as a text."""
    return {each.node: words(each) for each in steered}


def stamp(texts: Mapping[str, str]) -> str:
    """Give what tells these texts from others, for a form that was shown with them to send back."""
    return digest(json.dumps(dict(texts))).hex()[:16]


def follows(producer: Producer, everyone: Steered | None, one: Steered | None) -> bool:
    """Say whether a worker shows itself as it was asked to be."""

    def wanted(field: str) -> object:
        for steered in (one, everyone):
            if steered is not None and (value := getattr(steered, field)) is not None:
                return value
        return None

    rests = bool(wanted("paused") or wanted("stopped"))
    limit = wanted("local_limit")
    return producer.paused == rests and limit in (None, producer.local_limit)


ROUTES = [
    web.get("/queues", show_all),
    web.get("/queues/{name:[^/]+}", show),
    web.get("/queues/{name:[^/]+}/{form:pause|resume|scale|stop|start|limits}", go_back),
    web.post("/queues/{name:[^/]+}/pause", pause),
    web.post("/queues/{name:[^/]+}/resume", resume),
    web.post("/queues/{name:[^/]+}/scale", scale),
    web.post("/queues/{name:[^/]+}/stop", stop),
    web.post("/queues/{name:[^/]+}/start", start),
]
