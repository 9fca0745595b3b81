"""Writes the journals of running attempts: what changed, once a second, in few statements for all of them.

Journals are a by-product: they wait for a database that is away, up to a bound, and keep nothing else waiting.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from quarterjack.asking import ask
from quarterjack.clock import until_next
from quarterjack.database import LOST, Pool
from quarterjack.queries import journals
from quarterjack.queries.claims import Claim
from quarterjack.queries.journals import Journal
from quarterjack_worker.acker import POISON

log = logging.getLogger(__name__)

EVERY = 1.0
BATCH = 200
MOST = 2_000
ANSWER_WITHIN = 10.0


class Journals:
    """Collects who has something to tell; `run` writes it."""

    def __init__(self) -> None:
        self._changed: dict[Claim, Callable[[], Journal]] = {}
        self._some = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def changed(self, claim: Claim, journal: Callable[[], Journal]) -> None:
        """Take note that the journal of a claim has changed, from any thread; beyond a bound it is dropped."""
        if claim in self._changed or len(self._changed) < MOST:
            self._changed[claim] = journal
        if len(self._changed) == 1 and self._loop is not None:
            with suppress(RuntimeError):  # the process ends, and has closed it
                self._loop.call_soon_threadsafe(self._some.set)

    async def run(self, pool: Pool) -> None:
        """Write once a second what has changed, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            await asyncio.sleep(until_next(EVERY))
            self._some.clear()
            await self.flush(pool)
            if self._changed:
                self._some.set()

    async def flush(self, pool: Pool) -> None:
        """Write what has changed; what cannot be written now is kept for the next time."""
        keys = list(self._changed)
        for first in range(0, len(keys), BATCH):
            taken = {key: self._changed.pop(key) for key in keys[first : first + BATCH]}
            try:
                await _write(pool, list(_whole(taken)))
            except LOST as error:
                log.debug("could not write %d journals: %s", len(taken), error)
                for key, journal in taken.items():
                    self._changed.setdefault(key, journal)
                return


def _whole(taken: Mapping[Claim, Callable[[], Journal]]) -> Iterator[Journal]:
    """Give those that can be made: a handler may have spoilt its job."""
    for claim, journal in taken.items():
        try:
            yield journal()
        except Exception:
            log.exception("dropped the journal of job %s", claim.id)


async def _write(pool: Pool, batch: Sequence[Journal]) -> None:
    """Write a batch; one that is refused is halved, so that a spoilt journal takes no other along."""
    try:
        await ask(pool, partial(journals.write, journals=batch), ANSWER_WITHIN)
    except POISON:
        if len(batch) == 1:
            log.exception("dropped the journal of job %s", batch[0].job_id)
            return
        half = len(batch) // 2
        await _write(pool, batch[:half])
        await _write(pool, batch[half:])
