"""A way to the database that loses replies, or falls silent while it stays open."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from quarterjack.database import Address

CHUNK = 65_536


class Proxy:
    """Forwards connections, and can be told to do worse.

    `deaf` swallows what the server says, `silent` also what it is asked; `cut_after` replies end a connection,
    and `cut_chance` of all replies do; `refusing` takes no new connection.
    """

    def __init__(self, host: str, port: int, dice: random.Random | None = None) -> None:
        self.deaf = False
        self.silent = False
        self.refusing = False
        self.cut_after: int | None = None
        self.cut_chance = 0.0
        self.cuts = 0
        self.target = host, port
        self._dice = dice or random.Random(0)
        self._replies = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cut(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def retarget(self, host: str, port: int) -> None:
        """Lead to another server, as a Service does after a failover."""
        self.target = host, port
        await self.cut()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_connection(*self.target)
            try:
                asking = asyncio.create_task(self._ask(reader, server_writer))
                answering = asyncio.create_task(self._answer(server_reader, writer))
                try:
                    await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (asking, answering):
                        task.cancel()
                    await asyncio.gather(asking, answering, return_exceptions=True)
            finally:
                server_writer.close()
                writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(CHUNK):
            if not self.silent:
                writer.write(said)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(CHUNK):
            if self.deaf or self.silent:
                continue
            self._replies += 1
            counted = self.cut_after is not None and self._replies % self.cut_after == 0
            if counted or self._dice.random() < self.cut_chance:
                self.cuts += 1
                return
            writer.write(said)
            await writer.drain()


@asynccontextmanager
async def proxied(
    address: Address, dice: random.Random | None = None
) -> AsyncIterator[tuple[Proxy, Address]]:
    """Open a proxy before the database of an address; the address that leads through it."""
    parts = urlsplit(address.url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5432, dice)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
    try:
        yield proxy, replace(address, url=url, direct_url=url)
    finally:
        server.close()
        await proxy.cut()
        await server.wait_closed()
