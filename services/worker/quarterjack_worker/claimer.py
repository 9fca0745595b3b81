"""Claims what there is room for: one for the queues with limits over all nodes, one for all others.

So a claim that must look far into the backlog of a limited queue keeps no job of another queue waiting.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from secrets import token_hex

from quarterjack.clock import boot, within
from quarterjack.database import LOST, Pool
from quarterjack.queries import limited_claims
from quarterjack_worker.acker import Acker
from quarterjack_worker.attempts import LATE, Attempts
from quarterjack_worker.queues import Queue, Queues
from quarterjack_worker.session import Session

log = logging.getLogger(__name__)

GATHER = 0.005
LONGEST_PATIENCE = 24.0
"""What a claim takes is not begun when it is answered late, so none is waited for longer than that; but those after it
are, by and by, for whatever keeps a claim from being answered may keep its session as well."""


class Claimer:
    """Claims for queues that are `limited`, or for those that are not; `wake` makes it look at once.

    `unanswered` holds the nonces of claims under way, and for each the ids of jobs that were cancelled meanwhile: it
    may have taken them.
    """

    def __init__(
        self,
        pool: Pool,
        node: str,
        queues: Queues,
        *,
        limited: bool,
        acker: Acker,
        attempts: Attempts,
        cut_off: Callable[[], object],
        unanswered: dict[str, list[object]],
    ) -> None:
        self._session = Session(pool)
        self._node = node
        self._queues = queues
        self._limited = limited
        self._acker = acker
        self._attempts = attempts
        self._cut_off = cut_off
        self._unanswered = unanswered
        self._woken, self._roomy = asyncio.Event(), asyncio.Event()
        self._gathering = False
        self._patience = LATE
        self.looked_at = -math.inf

    def wake(self) -> None:
        self._woken.set()

    def make_room(self, queue: Queue) -> None:
        """Look at a queue that may have more, now that it has room."""
        self._woken.set()
        if self._gathering and queue.roomy:
            self._roomy.set()

    async def claim_all(self, stopping: asyncio.Event) -> None:
        """Claim until told to stop: when woken, when room is made, and when limits may have let go."""
        reachable = True
        while not stopping.is_set():
            self._woken.clear()
            try:
                more = await self._claim()
                self.looked_at = time.monotonic()
                reachable, self._patience = True, LATE
            except LOST as error:
                more, self._patience = False, min(self._patience * 2, LONGEST_PATIENCE)
                self._queues.rung(None)
                self._cut_off()
                if reachable:
                    log.warning("could not claim: %s; trying again", error)
                reachable = False
            if not more:
                await within(self._queues.patience(limited=self._limited), self._woken.wait())
                if self._attempts and not any(queue.roomy for queue in self._mine()):
                    self._gathering = True
                    await within(GATHER, self._roomy.wait())
                    self._gathering = False
                    self._roomy.clear()
                if not self._woken.is_set():
                    self._queues.look_again(limited=self._limited)

    def _mine(self) -> list[Queue]:
        return [queue for queue in self._queues if queue.limited == self._limited]

    async def _claim(self) -> bool:
        """Claim once; True if there may be more to claim at once."""
        wants = self._queues.wants(limited=self._limited)
        if not any(self._queues[want.queue].hungry for want in wants) or self._acker.full:
            return False
        asked_at, nonce = boot(), token_hex(6)
        self._unanswered[nonce] = []
        for want in wants:  # who rings from now on may be too late for this claim
            self._queues[want.queue].hungry = False

        claim = partial(limited_claims.claim, wants=wants, node=self._node, nonce=nonce)
        try:
            claimed = await self._session.ask(claim, self._patience)
            self._attempts.take(claimed.jobs, asked_at=asked_at)
            for id in self._unanswered[nonce]:
                self._attempts.kill(id)
        finally:
            del self._unanswered[nonce]
        counts: dict[str, int] = {}
        for job in claimed.jobs:
            counts[job.queue] = counts.get(job.queue, 0) + 1
        more = False
        for want in wants:
            queue = self._queues[want.queue]
            found = counts.get(want.queue, 0)
            if want.limited:
                queue.looked(claimed.looks[want.queue], found=found)
            if found >= want.demand:
                queue.hungry = True
                more = more or queue.roomy
        if any(look.crowded for look in claimed.looks.values()):
            self._queues.crowding.set()
        return more
