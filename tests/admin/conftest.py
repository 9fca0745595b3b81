"""A real admin in this process, and visitors who use it as browsers do."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from html import unescape
from typing import Any

import aiohttp
import aiohttp_jinja2
import jinja2
import pytest
from aiohttp import web
from argon2.profiles import CHEAPEST

from quarterjack.queries import access
from quarterjack_admin import passwords
from quarterjack_admin.__main__ import LINK_LASTS
from quarterjack_admin.app import make_app
from quarterjack_admin.config import Config
from quarterjack_admin.guard import digest
from tests.conftest import TestDatabase
from tests.processes import free_port

PASSWORD = "correct horse battery"
CSRF = re.compile(r'name="csrf_token" value="([^"]*)"')


class _Compiled(jinja2.BytecodeCache):
    """Templates, compiled once for all admins of this process."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Any) -> None:
        if bucket.key in self.found:
            bucket.bytecode_from_string(self.found[bucket.key])

    def dump_bytecode(self, bucket: Any) -> None:
        self.found[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def quick() -> Iterator[None]:
    """Compile each template once, and hash passwords as cheaply as can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "RFC_9106_LOW_MEMORY", CHEAPEST)
        compiled = partial(aiohttp_jinja2.setup, bytecode_cache=_Compiled())
        patch.setattr(aiohttp_jinja2, "setup", compiled)
        yield


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, its text without markup, and its forms' hidden fields."""

    status: int
    html: str
    headers: Any
    path: str

    @property
    def text(self) -> str:
        bare = re.sub(r"<(script|style|svg).*?</\1>|<[^>]+>", " ", self.html, flags=re.DOTALL)
        return " ".join(unescape(bare).split())

    def field(self, name: str) -> str:
        found = re.search(rf'name="{name}"[^>]*value="([^"]*)"', self.html)
        assert found, f"no field {name}"
        return unescape(found[1])

    def fields(self) -> dict[str, str]:
        """Give what the last form of the page would send."""
        form = self.html.rpartition("<form")[2]
        sent = {
            n: unescape(v)
            for n, v in re.findall(
                r'<input(?=[^>]*\bname="([^"]*)")(?=[^>]*\bvalue="([^"]*)")', form
            )
            if n != "force"
        }
        for name, inner in re.findall(
            r'<select[^>]*name="([^"]*)".*?>(.*?)</select>', form, re.DOTALL
        ):
            chosen = re.search(r'value="([^"]*)" selected', inner)
            sent[name] = chosen[1] if chosen else ""
        for name, value in re.findall(
            r'<textarea[^>]*name="([^"]*)".*?>(.*?)</textarea>', form, re.DOTALL
        ):
            sent[name] = unescape(value)
        return sent


class Visitor:
    """One browser: its cookies, and the token of its session."""

    def __init__(self, origin: str, session: aiohttp.ClientSession) -> None:
        self.origin = origin
        self.session = session
        self.csrf = ""

    async def get(self, path: str, **headers: str) -> Page:
        async with self.session.get(self.origin + path, headers=headers) as answer:
            return await self._read(answer)

    async def post(
        self,
        path: str,
        fields: dict[str, str] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Page:
        sent = {"csrf_token": self.csrf} | (fields or {})
        given = {"Origin": self.origin} if headers is None else headers
        async with self.session.post(self.origin + path, data=sent, headers=given) as answer:
            return await self._read(answer)

    async def sign_in(self, name: str, password: str = PASSWORD) -> Page:
        return await self.post("/sign-in", {"name": name, "password": password})

    async def _read(self, answer: aiohttp.ClientResponse) -> Page:
        html = await answer.text()
        if found := CSRF.search(html):
            self.csrf = found[1]
        return Page(answer.status, html, answer.headers, answer.url.path_qs)


@dataclass(frozen=True, slots=True)
class Admin:
    """A running admin."""

    origin: str
    database: TestDatabase
    stack: AsyncExitStack

    async def visitor(self) -> Visitor:
        jar = aiohttp.CookieJar(unsafe=True)
        session = await self.stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        return Visitor(self.origin, session)

    async def signed_in(self, name: str = "ana", role: str = "admin") -> Visitor:
        """Give a visitor with a new account of this role, signed in."""
        await add_user(self.database, name, role)
        visitor = await self.visitor()
        page = await visitor.sign_in(name)
        assert page.status == 200, page.text
        return visitor


async def add_user(database: TestDatabase, name: str, role: str) -> None:
    await database.pool.execute(
        "INSERT INTO qj_users (name, role, password_hash) VALUES ($1, $2, $3)",
        name,
        role,
        await passwords.Passwords().hash(PASSWORD),
    )


async def serve(database: TestDatabase, stack: AsyncExitStack, *, secure: bool = False) -> Admin:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    config = Config(
        database=database.address,
        node="admin-1",
        host="127.0.0.1",
        port=port,
        origins=frozenset([origin]),
        secure=secure,
    )
    runner = web.AppRunner(make_app(config), access_log=None)  # a TestServer cancels who is gone
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, config.host, config.port).start()
    return Admin(origin, database, stack)


@pytest.fixture
async def admin(database: TestDatabase) -> AsyncIterator[Admin]:
    async with AsyncExitStack() as stack:
        yield await serve(database, stack)


async def link(database: TestDatabase) -> str:
    """Make a one-time link, and give its path."""
    await access.make_link(database.pool, digest("a-token"), lasts=LINK_LASTS)
    return "/link/a-token"
