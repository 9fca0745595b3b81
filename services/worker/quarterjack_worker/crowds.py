"""Looks past a long backlog of some values of a key, for jobs of others that no claim would see.

A claim takes from the first jobs of a queue and from those that are found here, so a value waits for a look at most,
not for the backlog of others.
"""

import asyncio
import logging
import time
from functools import partial

from quarterjack.asking import ask
from quarterjack.database import LOST, Pool
from quarterjack.queries import beyond
from quarterjack_worker.queues import Queues

log = logging.getLogger(__name__)

EVERY = 1.0
BUSY = 10
"""It rests for so many times as long as its last look took."""
ANSWER_WITHIN = 30.0


async def look_beyond(queues: Queues, pool: Pool) -> None:
    """Look while queues are crowded, until cancelled."""
    while True:
        await queues.crowding.wait()
        queues.crowding.clear()
        began = time.monotonic()
        for queue in queues:
            if not queue.crowded:
                continue
            try:
                first = partial(beyond.first_of_each, queue=queue.name)
                queue.far = await ask(pool, first, ANSWER_WITHIN)
            except LOST as error:
                log.warning("could not look past the backlog of queue %s: %s", queue.name, error)
        await asyncio.sleep(max(EVERY, BUSY * (time.monotonic() - began)))
