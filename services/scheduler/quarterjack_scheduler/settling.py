"""The leader's look at what has ended: jobs that waited for it are freed or cancelled."""

import logging

from quarterjack.database import REFUSED, Connection
from quarterjack.queries import jobs, settling

log = logging.getLogger(__name__)

MOST = 2_000
AGAIN = 0.1


class Settler:
    """Settles ends in batches. A child that the database refuses is found by halving them, and waits for ever."""

    def __init__(self) -> None:
        self._size = MOST

    async def settle(self, db: Connection) -> float | None:
        """Settle what there is; again after the seconds that it gives, None if nothing is left to be done now."""
        size = self._size
        try:
            done = await settling.settle(db, lines=size, edges=size)
        except REFUSED as error:
            if size == 1:
                done = await settling.settle(db, lines=1, edges=1, decide=False)
                log.error("job %s cannot be freed: %s; it stays suspended", done.child, error)
            self._size = max(1, size // 2)
            return 0.0
        self._size = min(size * 2, MOST)
        if done.queues:
            await jobs.ring(db, sorted(done.queues))
        if done.cancelled:
            log.info("cancelled %d jobs that waited for others in vain", done.cancelled)
        if done.freed:
            log.debug("freed %d jobs that waited for others", done.freed)
        if not done.mine:
            return AGAIN
        full, progress = size in (done.lines, done.edges), done.edges or done.lines > done.left
        if full or done.left:
            return 0.0 if progress else AGAIN if full else None
        return None
