"""What the application and each request carry, and how a handler gets at the database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from quarterjack.database import Connection, Pool
from quarterjack.queries import cluster
from quarterjack.queries.access import Session
from quarterjack.telemetry import Telemetry
from quarterjack_admin.config import Config
from quarterjack_admin.events import Hub
from quarterjack_admin.limits import Limits
from quarterjack_admin.passwords import Passwords

CONFIG = web.AppKey("CONFIG", Config)
HUB = web.AppKey("HUB", Hub)
LIMITS = web.AppKey("LIMITS", Limits)
PASSWORDS = web.AppKey("PASSWORDS", Passwords)
POOL: web.AppKey[Pool] = web.AppKey("POOL")
TELEMETRY = web.AppKey("TELEMETRY", Telemetry)

SESSION: web.RequestKey[Session | None] = web.RequestKey("SESSION")
TRACEPARENT = web.RequestKey("TRACEPARENT", str)

SLOWEST_READ = 2_000
SLOWEST_WRITE = 5_000


@asynccontextmanager
async def reading(request: web.Request) -> AsyncIterator[Connection]:
    """Read in one snapshot that cannot write, and that gives up after 2 s a statement."""
    async with (
        request.app[POOL].acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await cluster.limit_reads(connection, milliseconds=SLOWEST_READ)
        yield connection


@asynccontextmanager
async def writing(request: web.Request) -> AsyncIterator[Connection]:
    """Act in one transaction: all of it, with its line in the audit, or nothing."""
    async with request.app[POOL].acquire() as connection, connection.transaction():
        await cluster.limit_reads(connection, milliseconds=SLOWEST_WRITE)
        yield connection


def session_of(request: web.Request) -> Session:
    """Give the session of a handler that requires a permission."""
    session = request[SESSION]
    assert session is not None
    return session
