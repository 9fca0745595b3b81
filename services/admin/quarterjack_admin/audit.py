"""The line that an action leaves in the audit: who did it, from where, to what, and whether it was done."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from quarterjack.database import Connection
from quarterjack.queries import access
from quarterjack_admin.keys import session_of


async def record(
    request: web.Request,
    db: Connection,
    action: str,
    *,
    target: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
    done: bool = True,
) -> None:
    """Record what who is signed in has done, or not done, because something had changed meanwhile."""
    await access.record(
        db,
        actor=session_of(request).name,
        action=action,
        address=request.remote or "",
        target=target,
        before=before,
        after=after,
        reason=reason,
        result="ok" if done else "conflict",
    )
