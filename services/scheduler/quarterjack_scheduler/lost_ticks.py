"""Find ticks that a failover lost: acknowledged to this replica in the last ten minutes, and known no more.

A failover ends every session, so the end of one is the sign to look. What is lost is decided again by itself,
because its watermark was lost with it; people must hear that jobs may run twice.
"""

import logging
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from quarterjack.database import Connection
from quarterjack.queries import losses
from quarterjack.queries.ticks import Struck

log = logging.getLogger(__name__)

KEPT_FOR = timedelta(minutes=10)
MOST = 100_000


class LostTicks:
    """Remembers acknowledged decisions, and compares them with the ledger."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._kept: deque[Struck] = deque(maxlen=MOST)
        self._session_ended = False

    def keep(self, struck: Sequence[Struck]) -> None:
        """Remember what was answered; forget what is older than ten minutes."""
        self._kept.extend(struck)
        while self._kept and self._kept[-1].decided_at - self._kept[0].decided_at > KEPT_FOR:
            self._kept.popleft()

    async def look(self, db: Connection) -> None:
        """If a session has ended since the last look, say what the ledger does not know any more."""
        db.add_termination_listener(self._doubt)
        if not self._session_ended:
            return
        if self._kept:
            self._tell(await losses.report(db, list(self._kept), by=self._node))
        self._session_ended = False

    def _doubt(self, _: object) -> None:
        self._session_ended = True

    def _tell(self, lost: Sequence[losses.Lost]) -> None:
        gone = {(each.schedule_id, each.tick_at, each.decided_at) for each in lost}
        self._kept = deque(
            (
                each
                for each in self._kept
                if (each.schedule_id, each.tick_at, each.decided_at) not in gone
            ),
            maxlen=MOST,
        )
        for each in lost:
            log.error(
                "the database lost the tick %s of schedule %d, acknowledged at %s as job %s: it is decided again",
                each.tick_at.isoformat(),
                each.schedule_id,
                each.decided_at.isoformat(),
                each.job_id,
            )
