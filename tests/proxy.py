"""A way to the database that is made to fail: it loses replies, falls silent, cuts, delays or leads elsewhere."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from quarterjack.database import Address
from tests.wire import Answered, Asked

CHUNK = 65_536


class Gate:
    """Holds back what comes while it is shut; once open, it all goes on, late."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    @property
    def shut(self) -> bool:
        return not self._open.is_set()

    @shut.setter
    def shut(self, value: bool) -> None:
        (self._open.clear if value else self._open.set)()

    async def passed(self) -> None:
        await self._open.wait()


class Proxy:
    """Forwards connections, and can be told at any time to do worse.

    `deaf` holds back what the server says, `silent` also what it is asked; both let it through, late, when they
    end. `cut_after` replies end a connection, and `cut_chance` of all replies do, in their middle; `refusing`
    takes no new connection; `delay` is the least and the most seconds that each piece takes, `loss` the chance
    that its packet is lost and sent again after 0.2 s, 0.4 s and so on. `cut_reply_of` is a
    text: when the server has finished a statement that holds it, the client's connection ends without a reply. All
    that was asked for, cancellations too, is `accepted`.
    """

    def __init__(self, host: str, port: int, dice: random.Random | None = None) -> None:
        self.refusing = False
        self.delay = (0.0, 0.0)
        self.loss = 0.0
        self.cut_after: int | None = None
        self.cut_chance = 0.0
        self.cut_reply_of: bytes | None = None
        self.cuts = self.accepted = 0
        self.replies = 0
        self.target = host, port
        self.dice = dice or random.Random(0)
        self.asking, self.answering = Gate(), Gate()
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def deaf(self) -> bool:
        return self.answering.shut

    @deaf.setter
    def deaf(self, value: bool) -> None:
        self.answering.shut = value

    @property
    def silent(self) -> bool:
        return self.asking.shut and self.answering.shut

    @silent.setter
    def silent(self, value: bool) -> None:
        self.asking.shut = self.answering.shut = value

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cut(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self, name: bytes = b"") -> int:
        """End connections of that application at the server's side only: clients are told nothing; how many."""
        chosen = [connection for connection in self.connections if name in connection.start]
        for connection in chosen:
            connection.forget()
        return len(chosen)

    async def retarget(self, host: str, port: int) -> None:
        """Lead to another server, as a Service does after a failover."""
        self.target = host, port
        await self.cut()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            try:
                await self.asking.passed()
                server_reader, server_writer = await asyncio.open_connection(*self.target)
                connection = Connection(self, writer, server_writer)
                self.connections.add(connection)
                try:
                    await connection.run(reader, server_reader)
                finally:
                    self.connections.discard(connection)
                    server_writer.transport.abort()
            finally:
                writer.transport.abort()


class Connection:
    """One client, and the server behind the proxy."""

    def __init__(
        self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._asked = Asked()
        self._answered = Answered(self._asked)
        self._marked = False
        self._forgotten = False

    @property
    def start(self) -> bytes:
        return self._asked.start

    def forget(self) -> None:
        self._forgotten = True
        self._server.transport.abort()

    async def run(
        self, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader
    ) -> None:
        tasks = [
            asyncio.create_task(self._ask(from_client)),
            asyncio.create_task(self._answer(from_server)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._forgotten:
                await self._client.wait_closed()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, reader: asyncio.StreamReader) -> None:
        proxy = self._proxy
        while said := await reader.read(CHUNK):
            executed = self._asked.executed(said)
            marker = proxy.cut_reply_of
            self._marked |= marker is not None and any(marker in each for each in executed)
            await self._pass(proxy.asking, self._server, said)
        await proxy.asking.passed()  # that the client has gone is news too

    async def _answer(self, reader: asyncio.StreamReader) -> None:
        proxy = self._proxy
        while said := await reader.read(CHUNK):
            finished = self._answered.finished(said)
            if self._marked and not finished:
                continue
            proxy.replies += 1
            counted = proxy.cut_after is not None and proxy.replies % proxy.cut_after == 0
            if self._marked or counted:
                proxy.cuts += 1
                return
            if proxy.cut_chance and proxy.dice.random() < proxy.cut_chance:
                proxy.cuts += 1
                self._client.write(said[: len(said) // 2])
                await self._client.drain()
                return
            await self._pass(proxy.answering, self._client, said)

    async def _pass(self, gate: Gate, writer: asyncio.StreamWriter, said: bytes) -> None:
        if self._proxy.delay[1]:
            await asyncio.sleep(self._proxy.dice.uniform(*self._proxy.delay))
        again = 0.2
        while self._proxy.dice.random() < self._proxy.loss:
            await asyncio.sleep(again)
            again *= 2
        await gate.passed()
        writer.write(said)
        await writer.drain()


@asynccontextmanager
async def opened(
    host: str, port: int, dice: random.Random | None = None
) -> AsyncIterator[tuple[Proxy, int]]:
    """Open a proxy before a server; with the port that leads through it."""
    proxy = Proxy(host, port, dice)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await proxy.cut()
        await server.wait_closed()


def through(url: str, port: int) -> str:
    """Give the address that leads through a proxy's port."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))


@asynccontextmanager
async def proxied(
    address: Address, dice: random.Random | None = None
) -> AsyncIterator[tuple[Proxy, Address]]:
    """Open a proxy before the database of an address; the address that leads through it."""
    parts = urlsplit(address.url)
    async with opened(parts.hostname or "127.0.0.1", parts.port or 5432, dice) as (proxy, port):
        url = through(address.url, port)
        yield proxy, replace(address, url=url, direct_url=url)
