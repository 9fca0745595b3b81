"""Who schedules and who works."""

from datetime import timedelta

from aiohttp import web

from quarterjack.queries import cluster
from quarterjack_admin.keys import reading
from quarterjack_admin.paging import read_page
from quarterjack_admin.permissions import requires
from quarterjack_admin.render import look_around, page

TERMS = 20
PAGE = 200
MISSING_AFTER = timedelta(seconds=3)
SILENT_AFTER = timedelta(seconds=5)
SKEWED = timedelta(seconds=2)


@requires("view")
async def show(request: web.Request) -> web.Response:
    """Show replicas, the lease, the terms and the workers."""
    number = read_page(request.query.get("page"))
    async with reading(request) as db:
        shell = await look_around(db)
        lease = await cluster.lease(db)
        peers = await cluster.peers(db)
        terms = await cluster.terms(db, limit=TERMS)
        found = await cluster.producers(db, offset=(number - 1) * PAGE, limit=PAGE + 1)
        nodes, served = await cluster.beating(db, within=SILENT_AFTER)
    return page(
        request,
        "cluster.html",
        shell=shell,
        lease=lease,
        peers=[
            {
                "peer": peer,
                "leads": lease is not None and lease.led and lease.holder == peer.uuid,
                "missing": shell.now - peer.heartbeat_at > MISSING_AFTER,
                "skewed": abs(peer.clock_offset) > SKEWED,
            }
            for peer in peers
        ],
        terms=terms,
        producers=[
            {"producer": each, "silent": each.silent > SILENT_AFTER and each.state != "dead"}
            for each in found[:PAGE]
        ],
        nodes=nodes,
        served=served,
        number=number,
        more=len(found) > PAGE,
    )


ROUTES = [web.get("/cluster", show)]
