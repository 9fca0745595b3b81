"""Claims what there is room for, when it is told that there is something, and hands it to the attempts.

A notification may be lost, so every heartbeat looks for waiting jobs; while none is answered, claims are tried instead.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Any
from uuid import uuid4

from quarterjack import channels
from quarterjack.clock import boot
from quarterjack.database import LOST, Pool, ask
from quarterjack.health import stalled
from quarterjack.queries import limited_claims
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.attempts import LATE, Attempts
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.lost_claims import LostClaims
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queue, Queues

log = logging.getLogger(__name__)

GATHER = 0.005
SILENT = 1.5
LONGEST_PATIENCE = 24.0
"""What a claim takes is not begun when it is answered late, so none is waited for longer than that; but those after it
are, by and by, for whatever keeps a claim from being answered may keep its session as well."""


class Engine:
    """Claims and runs jobs; `heard` and `wake` make it look at once."""

    def __init__(
        self,
        pool: Pool,
        node: str,
        queues: Queues,
        runner: Runner,
        *,
        acker: Acker,
        telemetry: Telemetry,
        web: ObanWeb,
        marks: int | None = None,
    ) -> None:
        self._pool = pool
        self._node = node
        self._queues = queues
        self._acker = acker
        self._woken = asyncio.Event()
        self._looked_at = self._beaten_at = -math.inf
        self._unanswered: set[str] = set()
        self._roomy, self._gathering = asyncio.Event(), False
        self._patience = LATE
        self.attempts = Attempts(
            pool,
            queues,
            runner,
            acker=acker,
            telemetry=telemetry,
            web=web,
            ended=self._ended,
            marks=marks,
        )
        acker.relieved = self._woken.set
        self.lost_claims = LostClaims(pool, queues, self.attempts, acker, self._unanswered)

    def heard(self, channel: str, message: dict[str, Any]) -> None:
        """Take a notification: an insert, a signal, or that the signal that follows is kept in qj_queues."""
        if channel == channels.INSERT:
            if self._queues.rung(message.get("queue")):
                self._woken.set()
        elif channel == channels.QUEUES:
            self._queues.kept.append(message)
        elif message.get("action") == "pkill":
            self.attempts.kill(message.get("job_id"))
        else:
            self._queues.obey(message)
            self._woken.set()

    def wake(self) -> None:
        """Look at every queue, as if each had been rung."""
        self._queues.rung(None)
        self._woken.set()

    def beaten(self, waiting: Iterable[str]) -> None:
        """Take from a heartbeat which queues have jobs waiting."""
        self._beaten_at = time.monotonic()
        for queue in waiting:
            if self._queues.rung(queue):
                self._woken.set()

    def reconnected(self) -> None:
        """Look at every queue, and at the claims: replies may be lost, or completions, by a failover."""
        self._queues.kept.clear()
        self.lost_claims.doubtful.set()
        self.wake()

    async def claim_all(self, stopping: asyncio.Event) -> None:
        """Claim until told to stop: when woken, when room is made, and every second without a heartbeat."""
        reachable = True
        while not stopping.is_set():
            self._woken.clear()
            try:
                more = await self._claim()
                self._looked_at = time.monotonic()
                reachable, self._patience = True, LATE
            except LOST as error:
                more, self._patience = False, min(self._patience * 2, LONGEST_PATIENCE)
                self._queues.rung(None)
                self.lost_claims.cut_off()
                if reachable:
                    log.warning("could not claim: %s; trying again", error)
                reachable = False
            if not more:
                await _within(self._woken.wait(), self._queues.patience())
                if self.attempts and not any(queue.roomy for queue in self._queues):
                    self._gathering = True
                    await _within(self._roomy.wait(), GATHER)
                    self._gathering = False
                    self._roomy.clear()
                if not self._woken.is_set():
                    silent = time.monotonic() - self._beaten_at > SILENT
                    self._queues.look_again(at_all=silent)

    def _ended(self, queue: Queue) -> None:
        if queue.hungry:
            self._woken.set()
            if self._gathering and queue.roomy:
                self._roomy.set()

    def unready(self) -> str | None:
        """Say for how long it has not looked for jobs, if for too long."""
        return stalled("it has not looked for jobs", time.monotonic() - self._looked_at)

    async def _claim(self) -> bool:
        """Claim once; True if there may be more to claim at once."""
        wants = self._queues.wants()
        if not any(self._queues[want.queue].hungry for want in wants) or self._acker.full:
            return False
        asked_at, nonce = boot(), uuid4().hex[:12]
        self._unanswered.add(nonce)
        for want in wants:  # who rings from now on may be too late for this claim
            self._queues[want.queue].hungry = False
        try:
            claim = partial(limited_claims.claim, wants=wants, node=self._node, nonce=nonce)
            claimed = await ask(self._pool, claim, self._patience)
        finally:
            self._unanswered.discard(nonce)
        self.attempts.take(claimed.jobs, asked_at=asked_at)
        counts: dict[str, int] = {}
        for job in claimed.jobs:
            counts[job.queue] = counts.get(job.queue, 0) + 1
        more = False
        for want in wants:
            queue = self._queues[want.queue]
            if counts.get(want.queue, 0) >= want.demand:
                queue.hungry = True
                more = more or queue.roomy
            queue.held_back = claimed.held_back.get(want.queue)
            queue.crowded = want.queue in claimed.crowded
        if claimed.crowded:
            self._queues.crowding.set()
        return more


async def _within(waiting: Awaitable[object], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return
