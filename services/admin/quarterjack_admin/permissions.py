"""Who may do what: each handler says so, and an application with one that does not cannot be made."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web

Handler = TypeVar("Handler", bound=Callable[[web.Request], Awaitable[web.StreamResponse]])

PUBLIC = "public"
VIEWER = frozenset({"view"})
OPERATOR = VIEWER | {"jobs.run", "jobs.retry", "jobs.cancel", "schedules.pause", "queues.pause"}
ADMIN = OPERATOR | {
    "jobs.run.force",
    "jobs.delete",
    "schedules.edit",
    "schedules.freeze",
    "queues.scale",
}
ROLES = {"viewer": VIEWER, "operator": OPERATOR, "admin": ADMIN}


def requires(permission: str) -> Callable[[Handler], Handler]:
    """Mark a handler with the permission that it needs, or `public`."""
    if permission != PUBLIC and permission not in ADMIN:
        raise ValueError(f"there is no permission {permission!r}")

    def mark(handler: Handler) -> Handler:
        handler.permission = permission  # type: ignore[attr-defined] # read by permission_of
        return handler

    return mark


def permission_of(handler: Any) -> str | None:
    """Give what a handler needs; None if it does not say."""
    found: str | None = getattr(handler, "permission", None)
    return found


def may(role: str, permission: str) -> bool:
    return permission in ROLES.get(role, frozenset())


def check_routes(app: web.Application) -> None:
    """Refuse an application with a route that nobody has given a permission."""
    for route in app.router.routes():
        if permission_of(route.handler) is None:
            raise RuntimeError(f"{route.method} {route.resource} declares no permission")
