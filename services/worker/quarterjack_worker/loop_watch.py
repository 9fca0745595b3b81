"""Notices, from a thread of its own, that the event loop gets no turn, and says which job holds it and where.

A handler that blocks the loop keeps every other job of the process waiting; the heartbeat goes on without it.
"""

import asyncio
import logging
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

from quarterjack.model import Job
from quarterjack.telemetry import Telemetry
from quarterjack_worker.attempts import Attempts

log = logging.getLogger(__name__)

EVERY, IDLE_EVERY = 0.25, 5.0
LOOKS = 4
PATIENCE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The loop is held: by this job if one is known, at this place in the code."""

    job: Job | None
    place: str


class LoopWatch:
    """Watches the event loop on which `run` runs, seldom while there are no attempts.

    `blocks` and `seconds` tell, by worker of the job, how often and for how long it was held for a second or
    more. What counts are looks of the thread while it waits for a turn of the loop, so a process that was stopped
    blames nobody.
    """

    def __init__(self, attempts: Attempts, telemetry: Telemetry) -> None:
        self.blocks: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self._attempts = attempts
        self._telemetry = telemetry
        self._stopping = threading.Event()

    async def run(self) -> None:
        """Watch this loop until cancelled."""
        loop, ident = asyncio.get_running_loop(), threading.get_ident()
        watching = (loop, ident)
        thread = threading.Thread(target=self._watch, args=watching, name="loop watch", daemon=True)
        thread.start()
        try:
            await loop.create_future()
        finally:
            self._stopping.set()
            self._attempts.stirred.set()
            thread.join(PATIENCE)

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        while True:
            self._attempts.stirred.clear()
            if not self._attempts:
                self._attempts.stirred.wait(IDLE_EVERY)
            turned_at = time.monotonic()
            if self._stopping.wait(EVERY):
                return
            self._await_turn(loop, ident, turned_at)

    def _await_turn(self, loop: asyncio.AbstractEventLoop, ident: int, turned_at: float) -> None:
        turned, looks = threading.Event(), 0
        loop.call_soon_threadsafe(turned.set)
        block: Block | None = None
        while not turned.wait(EVERY) and not self._stopping.is_set():
            looks += 1
            if looks == LOOKS:
                block = self._look(loop, ident)
                log.warning(
                    "%s has blocked the event loop for %.1f s, at %s: make it `def`, or await",
                    f"job {block.job.id} {block.job.worker}" if block.job else "something",
                    time.monotonic() - turned_at,
                    block.place,
                    extra={"job_id": block.job.id} if block.job else None,
                )
        if block is not None:
            self._count(block, time.monotonic() - turned_at)

    def _count(self, block: Block, held: float) -> None:
        worker = block.job.worker if block.job else ""
        self.blocks[worker] += 1
        self.seconds[worker] = self.seconds.get(worker, 0.0) + held
        attributes = {"place": block.place}
        if block.job is not None:
            attributes |= {"job.id": str(block.job.id), "worker": block.job.worker}
        span = self._telemetry.start("event loop blocked", attributes=attributes)
        span.started -= int(held * 1e9)
        self._telemetry.end(span, error="the event loop had no turn")
        log.warning("the event loop goes on after %.1f s", held)

    def _look(self, loop: asyncio.AbstractEventLoop, ident: int) -> Block:
        job = self._attempts.job_of(asyncio.current_task(loop))
        frame = sys._current_frames().get(ident)
        if frame is None:
            return Block(job=job, place="an unknown place")
        code = frame.f_code
        return Block(job=job, place=f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}")
