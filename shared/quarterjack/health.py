"""The answers to a supervisor's two questions: `/live`, is this process worth keeping, `/ready`, does its work get on.

And `/metrics`, what it measures. Off unless QUARTERJACK_HEALTH says where to listen. A thread of its own answers, so
that a blocked event loop can be told; it asks the database nothing, so that nobody can make work for it.
"""

import asyncio
import logging
import math
import os
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from quarterjack.errors import SettingInvalid
from quarterjack.metrics import Measure, written

log = logging.getLogger(__name__)

Reason = Callable[[], str | None]
Measures = Callable[[], Iterable[Measure]]

SILENT_AFTER = 5.0
"""Seconds without progress that make a service not ready."""
TURN_EVERY = 0.5
LONGEST = 4_096
WITHIN = 2.0
AT_ONCE = 100
REQUEST = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to listen."""

    host: str
    port: int


def from_environment() -> Place | None:
    """Read QUARTERJACK_HEALTH: `host:port`, `[::1]:port`, or a port on loopback; None if it is off."""
    text = os.environ.get("QUARTERJACK_HEALTH", "").strip()
    if text in ("", "off"):
        return None
    host, _, port = text.rpartition(":")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65_536 or " " in host:
        raise SettingInvalid(
            f"QUARTERJACK_HEALTH is {text[:60]!r}: give host:port, as 0.0.0.0:8081, a port on loopback, or off"
        )
    return Place(host=host.strip("[]") or "127.0.0.1", port=int(port))


class Health:
    """Answers while `answering` lasts; the service sets `unready` and `measures` once it has begun."""

    def __init__(self, blocked_after: float) -> None:
        self.unready: Reason = lambda: "it is starting: it waits for the database"
        self.measures: Measures = tuple
        self._blocked_after = blocked_after
        self._turned = time.monotonic()
        self._open: dict[asyncio.StreamWriter, None] = {}

    def turn(self) -> None:
        """Show that the event loop of the service gets its turn."""
        self._turned = time.monotonic()

    def blocked(self, after: float) -> str | None:
        """Say that the event loop has had no turn for so many seconds."""
        return stalled("the event loop has had no turn", time.monotonic() - self._turned, after)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and hang up; whoever asks for too much or too slowly gets no answer.

        Of too many at once those that have taken longest get none: a probe is brief.
        """
        self._open[writer] = None
        if len(self._open) > AT_ONCE:
            slowest = next(iter(self._open))
            del self._open[slowest]
            slowest.transport.abort()
        try:
            async with asyncio.timeout(WITHIN):
                asked = await reader.readuntil(b"\r\n\r\n")
                writer.write(self.reply(asked.partition(b"\r\n")[0]))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)
            writer.close()

    def reply(self, line: bytes) -> bytes:
        """Give the whole answer to a request line."""
        match = REQUEST.fullmatch(line)
        if match is None:
            return _response(400, "this is no request")
        if match[1] not in (b"GET", b"HEAD"):
            return _response(405, "only GET and HEAD")
        path = match[2].partition(b"?")[0]
        if path == b"/live":
            reason = self.blocked(self._blocked_after)
        elif path == b"/ready":
            reason = self.blocked(SILENT_AFTER) or self.unready()
        elif path == b"/metrics":
            return _response(200, written(self.measures()), head=match[1] == b"HEAD")
        else:
            return _response(404, "there are /live, /ready and /metrics")
        return _response(503 if reason else 200, reason or "ok", head=match[1] == b"HEAD")


def stalled(what: str, silence: float, after: float = SILENT_AFTER) -> str | None:
    """Say for how many seconds something has not got on, if for more than `after`."""
    if silence == math.inf:
        return f"{what} yet"
    return f"{what} for {silence:.1f} s" if silence > after else None


@asynccontextmanager
async def answering(place: Place | None, *, blocked_after: float) -> AsyncIterator[Health]:
    """Answer at the place, if there is one, until the block ends; SettingInvalid if it is taken.

    A process whose event loop has had no turn for `blocked_after` seconds is not worth keeping.
    """
    health = Health(blocked_after)
    if place is None:
        yield health
        return
    sock, loop = _listen(place), asyncio.new_event_loop()
    thread = threading.Thread(target=_serve, args=(health, sock, loop), name="health", daemon=True)
    turning = _Turning(health)
    thread.start()
    log.info("answers /live, /ready and /metrics on %s port %d", place.host, place.port)
    try:
        yield health
    finally:
        turning.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WITHIN)


class _Turning:
    """Shows the turns of the running event loop."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self._health.turn()
        self._timer = self._loop.call_later(TURN_EVERY, self._next)

    def stop(self) -> None:
        self._timer.cancel()


def _listen(place: Place) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, number)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(AT_ONCE)
        except OSError:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:
        why = f"QUARTERJACK_HEALTH: cannot listen on {place.host} port {place.port}: {error}"
        raise SettingInvalid(why) from error
    return sock


def _serve(health: Health, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        start = asyncio.start_server(health.answer, sock=sock, limit=LONGEST, backlog=AT_ONCE)
        server = loop.run_until_complete(start)
        loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
    except Exception:
        log.exception("the answers to /live, /ready and /metrics have ended")
    finally:
        sock.close()
        loop.close()


def _response(status: int, said: str, *, head: bool = False) -> bytes:
    body = f"{said}\n".encode()
    lines = (
        f"HTTP/1.1 {status} {PHRASES[status]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if head else body)
