"""Scripts and styles: read at start, served under their content's hash, for ever cacheable."""

import hashlib
from pathlib import Path

from aiohttp import web

from quarterjack_admin.permissions import PUBLIC, requires

DIRECTORY = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
CONTENT = {
    file.relative_to(DIRECTORY).as_posix(): file.read_bytes()
    for file in sorted(DIRECTORY.rglob("*"))
    if file.suffix in TYPES
}
PATHS = {
    name: f"/static/{hashlib.sha256(content).hexdigest()[:16]}/{name}"
    for name, content in CONTENT.items()
}


def address(name: str) -> str:
    """Give the path of a file for a page."""
    return PATHS[name]


@requires(PUBLIC)
async def serve(request: web.Request) -> web.Response:
    """Give a file of this release; the hash in the path makes it immutable."""
    name = request.match_info["name"]
    if PATHS.get(name) != request.path:
        raise web.HTTPNotFound
    return web.Response(
        body=CONTENT[name],
        content_type=TYPES[Path(name).suffix],
        charset="utf-8",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


ROUTES = [web.get("/static/{digest}/{name:.+}", serve)]
