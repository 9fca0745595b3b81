"""Enough of Postgres's protocol to know which statement a reply belongs to."""

import struct
from collections.abc import Iterator

SSL, GSS = 80_877_103, 80_877_104
QUERY, PARSE, BIND, READY = b"Q", b"P", b"B", b"Z"


class Asked:
    """Follows what a client says; `start` is how it began, with the name of the application."""

    def __init__(self) -> None:
        self.offers = 0
        self.start = b""
        self._buffer = bytearray()
        self._started = False
        self._statements: dict[bytes, bytes] = {}

    def executed(self, said: bytes) -> list[bytes]:
        """Take in what the client said, and give the statements that it has executed with it."""
        self._buffer += said
        found = []
        for kind, body in self._messages():
            if kind == QUERY:
                found.append(body)
            elif kind == PARSE:
                name, statement = body.split(b"\0", 2)[:2]
                self._statements[name] = statement
            elif kind == BIND:
                found.append(self._statements.get(body.split(b"\0", 2)[1], b""))
        return found

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            head = int(self._started)
            if len(self._buffer) < head + 4:
                return
            (length,) = struct.unpack_from("!I", self._buffer, head)
            if len(self._buffer) < head + length:
                return
            kind, body = bytes(self._buffer[:head]), bytes(self._buffer[head + 4 : head + length])
            del self._buffer[: head + length]
            if not self._started:
                (code,) = struct.unpack_from("!I", body)
                offer = code in (SSL, GSS)
                self._started, self.offers = not offer, self.offers + offer
                self.start = body
            yield kind, body


class Answered:
    """Follows what the server says."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._buffer = bytearray()

    def finished(self, said: bytes) -> int:
        """Take in what the server said; how many times that made it ready for the next query."""
        self._buffer += said
        while self._asked.offers and self._buffer:
            self._asked.offers -= 1  # declined by one byte that is no message
            del self._buffer[:1]
        count = 0
        while len(self._buffer) >= 5:
            (length,) = struct.unpack_from("!I", self._buffer, 1)
            if len(self._buffer) < 1 + length:
                break
            count += self._buffer[:1] == READY
            del self._buffer[: 1 + length]
        return count
