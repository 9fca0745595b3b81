"""How every service connects: one schema, UTC, JSON as Python values."""

import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.pool import PoolConnectionProxy
from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from quarterjack import hosts
from quarterjack.errors import SettingInvalid
from quarterjack.open_pool import OpenPool
from quarterjack.queries import connections

log = logging.getLogger(__name__)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Database: TypeAlias = "Pool | Connection"

UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # a session that the server ended just before it was used
)
"""What a server says, or fails to say, that is away, starting, stopping or full."""
LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
REFUSED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.PLPGSQLError,
    asyncpg.ProgramLimitExceededError,
)
"""What the server says of a row that it will not take, now or later."""

Answer = TypeVar("Answer")
DECODER = json.JSONDecoder()
BORROWED: ContextVar[bool] = ContextVar("borrowed", default=False)
"""True where a connection of a pool is given back by who borrowed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the database is; `direct_url` must not lead through a transaction pooler."""

    url: str
    direct_url: str
    schema: str


def from_environment() -> Address:
    """Read DATABASE_URL (or DATABASE_URL_FILE), DATABASE_DIRECT_URL and QUARTERJACK_SCHEMA."""
    url = read_secret("DATABASE_URL")
    if not url:
        raise SettingInvalid(
            "DATABASE_URL is not set: give it the address of the Postgres to use, "
            "for example postgresql://user@127.0.0.1:5432/quarterjack"
        )
    schema = os.environ.get("QUARTERJACK_SCHEMA", "public")
    if not re.fullmatch("[a-z_][a-z0-9_]{0,39}", schema):
        raise SettingInvalid(
            f"QUARTERJACK_SCHEMA is {schema!r}: use a lower-case identifier of at most 40 characters"
        )
    return Address(url=url, direct_url=read_secret("DATABASE_DIRECT_URL") or url, schema=schema)


def read_secret(name: str) -> str | None:
    """Give the variable NAME, or the content of the file that NAME_FILE names."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise SettingInvalid(f"{name}_FILE cannot be read: {error.strerror}") from error
    return os.environ.get(name) or None


async def connect(
    address: Address, *, name: str, timeout: float = 5.0
) -> "asyncpg.Connection[asyncpg.Record]":
    """Open one direct connection that notices a dead peer within seconds."""
    try:
        with _readable():
            connection: asyncpg.Connection[asyncpg.Record] = await hosts.connect(
                address.direct_url,
                timeout=timeout,
                server_settings=_settings(address, name),
                target_session_attrs=_wanted(address.direct_url),
                connection_class=asyncpg.Connection,
            )
    except TimeoutError as error:
        raise TimeoutError(f"no connection to the database within {timeout:g} s") from error
    try:
        await _prepare(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


@asynccontextmanager
async def open_pool(
    address: Address, *, name: str, size: int = 5, patience: float = 0.0, reset: bool = True
) -> AsyncIterator[Pool]:
    """Open a pool; with `patience` seconds, wait that long for a server that is not there yet.

    Without `reset`, which costs a round trip for each use that is not `borrowed`, users must leave no state of the
    session behind.
    """
    pool = await patiently(partial(_make_pool, address, name, size, reset), patience)
    try:
        yield pool
    finally:
        pool.terminate()


async def patiently(begin: Callable[[], Awaitable[Answer]], patience: float) -> Answer:
    """Begin, and again for `patience` seconds while the server is away; it may go in the middle."""

    def say(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            error = state.outcome.exception()
            log.warning("no database yet: %s; trying for %g s", error, patience)

    @retry(
        retry=retry_if_exception_type(UNREACHABLE),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        before_sleep=say,
        reraise=True,
    )
    async def once() -> Answer:
        return await begin()

    return await once()


async def _make_pool(address: Address, name: str, size: int, reset: bool) -> Pool:
    cache_size = _cache_size()
    with _readable():
        pool = await OpenPool(
            address.url,
            connect=hosts.connect,
            min_size=1,
            max_size=size,
            max_queries=50_000,
            max_inactive_connection_lifetime=60.0,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            loop=asyncio.get_running_loop(),
            init=_prepare,
            reset=_reset if reset else _leave,
            timeout=5.0,
            statement_cache_size=cache_size,
            server_settings=_settings(address, name),
            target_session_attrs=_wanted(address.url),
        )
    try:
        check_schema(address, await connections.schema(pool))
    except BaseException:
        pool.terminate()
        raise
    return pool


@contextmanager
def _readable() -> Iterator[None]:
    """Say what is wrong with an address without showing it: it may hold a password."""
    try:
        yield
    except OSError:  # a certificate that is refused is a ValueError too
        raise
    except asyncpg.ClientConfigurationError as error:
        raise SettingInvalid(f"the address of the database cannot be used: {error}") from None
    except (ValueError, OverflowError):
        raise SettingInvalid(
            "the address of the database cannot be read: give postgresql://user:password@host:5432/name, and write "
            "/ ? # @ : % within the password as %2F %3F %23 %40 %3A %25"
        ) from None


@asynccontextmanager
async def borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """Take a connection for statements of ours, which leave no state of the session behind."""
    token = BORROWED.set(True)
    try:
        async with pool.acquire() as connection:
            yield connection
    finally:
        BORROWED.reset(token)


async def _leave(_: Any) -> None:
    """Hand a connection to its next user as it is."""


async def _reset(connection: Any) -> None:
    """Clear what a user has left, as the pool would, unless the connection was only borrowed."""
    if not BORROWED.get():
        await connections.clear(connection, connection.get_reset_query())


def check_schema(address: Address, found: str | None) -> None:
    """Refuse a search_path of the role's or database's own: notifications would go to another channel."""
    if found is not None and found != address.schema:
        raise SettingInvalid(
            f"this connection works in the schema {found!r}, not in {address.schema!r}: set "
            f"QUARTERJACK_SCHEMA={found}, or take search_path away from the role and the database"
        )


def _settings(address: Address, name: str) -> dict[str, str]:
    settings = {"application_name": name[:63]}
    if address.schema != "public":
        settings["search_path"] = address.schema
    return settings


def _wanted(url: str) -> SessionAttribute | None:
    """Give what a server must be that we connect to, unless the operator says it: one that takes writes.

    While a failover is under way an address may lead to a standby, and a session there would outlive the failover.
    """
    said = "target_session_attrs" in url or "PGTARGETSESSIONATTRS" in os.environ
    return None if said else SessionAttribute.read_write


def _cache_size() -> int:
    """0 switches prepared statements off, as a transaction pooler before PgBouncer 1.21 needs."""
    size = os.environ.get("QUARTERJACK_STATEMENT_CACHE", "100")
    if not size.isdecimal():
        raise SettingInvalid(
            f"QUARTERJACK_STATEMENT_CACHE is {size!r}: give a number of statements"
        )
    return int(size)


def read_json(text: str) -> Any:
    """Read a stored value; one that Python cannot hold (too deep, too long a number) stays text.

    Another program may have written it, and one unreadable row must not spoil the others of a reply.
    """
    try:
        value, _ = DECODER.raw_decode(text)  # jsonb has no space around it, as json.loads expects
    except (ValueError, RecursionError):
        return text
    return value


async def _prepare(connection: Any) -> None:
    await connections.end_with_client(connection)
    await connections.compile_nothing(connection)
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=read_json, format="text"
    )
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport else None
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
