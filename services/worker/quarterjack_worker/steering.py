"""What Oban's signals ask of queues, kept in qj_queues, so that it outlives this process.

Every worker writes what it heard in the order in which it heard it, and all hear it in the order of the commits: so
what is written last is what was asked last.
"""

import asyncio
import logging
import time
from functools import partial

from quarterjack.asking import ask
from quarterjack.database import LOST, Pool
from quarterjack.queries import queues as kept
from quarterjack_worker.queues import Queues

log = logging.getLogger(__name__)

ANSWER_WITHIN = 5.0
AGAIN_AFTER = 1.0
BY_SIGNAL = "a signal"


async def remember(queues: Queues, pool: Pool) -> None:
    """Write what signals asked, until cancelled; what cannot be written yet is tried again."""
    while True:
        await queues.obeyed.wait()
        try:
            while queues.unwritten:
                (queue, node), change = next(iter(queues.unwritten.items()))
                await ask(
                    pool,
                    partial(kept.steer, queue=queue, change=change, node=node, by=BY_SIGNAL),
                    ANSWER_WITHIN,
                )
                if queues.unwritten.get((queue, node)) is change:
                    queues.written_at = time.monotonic()
                    del queues.unwritten[queue, node]
            queues.obeyed.clear()
        except LOST as error:
            log.warning("could not keep how queues are steered: %s; trying again", error)
            await asyncio.sleep(AGAIN_AFTER)
