"""Spans of the system's own work, written in batches to `otel_traces`.

Off unless QUARTERJACK_TELEMETRY=on. One trace leads from the tick to the ack: the W3C `traceparent`
travels in the job's meta. Spans are a by-product: they are dropped rather than waited for.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from quarterjack.clock import until_next
from quarterjack.database import LOST, Pool
from quarterjack.process import switched_on
from quarterjack.queries import traces
from quarterjack.queries.traces import Span

log = logging.getLogger(__name__)

CAPACITY = 10_000
BATCH = 1_000
FLUSH_EVERY = 1.0
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class Telemetry:
    """Collects spans of one service; `run` writes them."""

    def __init__(self, service: str, instance: str) -> None:
        self.on = switched_on("QUARTERJACK_TELEMETRY")
        self.service = service
        self.instance = instance
        self._kept = True
        self._ended: deque[Span] = deque(maxlen=CAPACITY)

    def start(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: str = "internal",
        attributes: Mapping[str, str] | None = None,
    ) -> Span:
        """Begin a span; `parent` is a traceparent, and an unreadable one starts a new trace."""
        match = TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
        return Span(
            trace_id=match[1] if match else secrets.token_hex(16),
            span_id=secrets.token_hex(8),
            parent_span_id=match[2] if match else None,
            name=name,
            kind=kind,
            started=time.time_ns(),
            attributes=dict(attributes or {}),
        )

    def end(self, span: Span, *, error: str | None = None) -> None:
        """Finish a span and keep it for the next batch."""
        if not self.on:
            return
        span.ended = time.time_ns()
        span.error = error if error is not None else span.error
        self._ended.append(span)

    @contextmanager
    def span(self, name: str, *, kind: str) -> Iterator[Span]:
        """Wrap a piece of work; an exception marks the span as failed and goes on."""
        span = self.start(name, kind=kind)
        try:
            yield span
        except BaseException as error:
            self.end(span, error=f"{type(error).__name__}: {error}"[:500])
            raise
        self.end(span)

    async def run(self, pool: Pool) -> None:
        """Write what has ended, once a second, until cancelled; return at once if there will be nothing."""
        while self.on:
            await asyncio.sleep(until_next(FLUSH_EVERY))
            await self.flush(pool)

    async def flush(self, pool: Pool) -> None:
        """Write what has ended; a batch that cannot be written is dropped."""
        while self._ended:
            batch = [self._ended.popleft() for _ in range(min(BATCH, len(self._ended)))]
            try:
                await traces.insert(pool, self.service, self.instance, batch)
                self._kept = True
            except LOST as error:
                if self._kept:
                    log.warning("could not write spans: %s; they are dropped", error)
                self._kept = False
                return
