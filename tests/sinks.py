"""A web server and a mail server on loopback that keep what they are sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any


@dataclass(slots=True, kw_only=True)
class WebSink:
    """Answers each POST with the next of `answers`, then with 204."""

    url: str = ""
    answers: list[str] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        body = await reader.readexactly(length)
        answer = self.answers.pop(0) if self.answers else "204 No Content"
        if answer.startswith("204"):
            self.received.append(json.loads(body))
        writer.write(
            f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()


@dataclass(slots=True, kw_only=True)
class MailSink:
    """Takes every message, without TLS and without asking who sends."""

    url: str = ""
    received: list[EmailMessage] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                text = await reader.readuntil(b"\r\n.\r\n")
                self.received.append(message_from_bytes(text[:-3], policy=policy.default))
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 sink\r\n")
            if verb == b"QUIT":
                break
        await writer.drain()
        writer.close()


@asynccontextmanager
async def web_sink(*answers: str) -> AsyncIterator[WebSink]:
    sink = WebSink(answers=list(answers))
    async with await asyncio.start_server(sink.serve, "127.0.0.1", 0) as server:
        sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        yield sink


@asynccontextmanager
async def mail_sink() -> AsyncIterator[MailSink]:
    sink = MailSink()
    async with await asyncio.start_server(sink.serve, "127.0.0.1", 0) as server:
        sink.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield sink
