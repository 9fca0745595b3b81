"""Find claims whose reply was lost, and give them back.

Invariant: a job that the database counts as this process's is among its attempts, or its outcome waits in the acker,
or the claim that took it is unanswered. What is none of these, in two looks, was claimed by a statement whose reply
was lost.
"""

import asyncio
import logging
from collections.abc import Iterable, Set
from functools import partial

from quarterjack.asking import ask
from quarterjack.clock import within
from quarterjack.database import LOST, Pool
from quarterjack.queries import claims
from quarterjack.queries.claims import Claim
from quarterjack_worker.acker import Acker
from quarterjack_worker.attempts import Attempts, give_back
from quarterjack_worker.queues import Queues

log = logging.getLogger(__name__)

ANSWER_WITHIN = 3.0
EVERY = 5.0
AGAIN = 0.5
LOOKS = 3


class LostClaims:
    """Looks for them; `unanswered` holds the nonces of claims that are under way, `doubtful` makes it look at once."""

    def __init__(
        self, pool: Pool, queues: Queues, attempts: Attempts, acker: Acker, unanswered: Set[str]
    ) -> None:
        self.doubtful = attempts.doubtful
        self._cut_off = False
        self._pool = pool
        self._queues = queues
        self._attempts = attempts
        self._acker = acker
        self._unanswered = unanswered

    def cut_off(self) -> None:
        """Take note that a claim got no answer: it may commit however late, so from now on looks do not end."""
        self._cut_off = True
        self.doubtful.set()

    async def run(self) -> None:
        """Look at every doubt, and every 5 s while jobs run, there was a doubt of late or a claim was cut off."""
        left = LOOKS
        while True:
            doubted = await within(EVERY, self.doubtful.wait())
            left = LOOKS if doubted or self._attempts or self._cut_off else left - 1
            self.doubtful.clear()
            if left <= 0:
                continue
            try:
                done = await self.look()
            except LOST as error:
                log.debug("could not look for lost claims: %s", error)
                done = False
            if not done:
                await asyncio.sleep(AGAIN)
                self.doubtful.set()

    async def look(self) -> bool:
        """Give back what is lost, and stop what another has; False if not all went back, for somebody holds it."""
        before, lost, gone = set(self._attempts), [], 0
        held = await self._held()
        if self._unknown(held):
            held = await self._held()  # what was acked since the first look is not lost
            lost = [claim for claim in self._unknown(held) if not self._acker.takes_back(claim)]
            if lost and (gone := await give_back(self._pool, lost)):
                log.warning("gave %d jobs back whose claim went unanswered", gone)
        for claim in before:
            if held.get(claim, True):  # it is gone, or cancelled
                self._attempts.stop_taken(claim)
        return gone == len(lost)

    async def _held(self) -> dict[Claim, bool]:
        producers = [queue.producer for queue in self._queues]
        return await ask(self._pool, partial(claims.held_by, producers=producers), ANSWER_WITHIN)

    def _unknown(self, held: Iterable[Claim]) -> list[Claim]:
        return [
            claim
            for claim in held
            if claim not in self._attempts
            and claim not in self._acker
            and claim.nonce not in self._unanswered
        ]
