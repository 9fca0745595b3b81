"""Hands what the worker is told to those who claim, and gives them the attempts that they fill.

A notification may be lost, so every heartbeat looks for waiting jobs; while none is answered, claims are tried instead.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from quarterjack import channels
from quarterjack.database import Pool
from quarterjack.health import stalled
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.attempts import Attempts
from quarterjack_worker.claimer import Claimer
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.lost_claims import LostClaims
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import POLL, Queue, Queues

log = logging.getLogger(__name__)

SILENT = 1.5


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
        self._queues = queues
        self._unanswered: dict[str, list[object]] = {}
        self.attempts = Attempts(
            pool,
            queues,
            runner,
            acker=acker,
            telemetry=telemetry,
            web=web,
            ended=self._ended,
            relieved=self._relieved,
            marks=marks,
        )
        acker.relieved = self._wake
        self.lost_claims = LostClaims(pool, queues, self.attempts, acker, self._unanswered.keys())
        self._claimers = {
            limited: Claimer(
                pool,
                node,
                queues,
                limited=limited,
                acker=acker,
                attempts=self.attempts,
                cut_off=self.lost_claims.cut_off,
                unanswered=self._unanswered,
            )
            for limited in (False, True)
        }
        self._silence = self._look_blindly_in(SILENT)

    def heard(self, channel: str, message: dict[str, Any]) -> None:
        """Take a notification: an insert, a signal, or that the signal that follows is kept in qj_queues."""
        if channel == channels.INSERT:
            self._ring(message.get("queue"))
        elif channel == channels.QUEUES:
            self._queues.kept.append(message)
        elif message.get("action") == "pkill":
            self._kill(message.get("job_id"))
        else:
            self._queues.obey(message)
            self._wake()

    def wake(self) -> None:
        """Look at every queue, as if each had been rung."""
        self._queues.rung(None)
        self._wake()

    def beaten(self, waiting: Iterable[str]) -> None:
        """Take from a heartbeat which queues have jobs waiting; of those that limits hold back that is known."""
        self._silence.cancel()
        self._silence = self._look_blindly_in(SILENT)
        for queue in waiting:
            if not self._queues[queue].held_back:
                self._ring(queue)

    def reconnected(self) -> None:
        """Look at every queue, and at the claims: replies may be lost, or completions, by a failover."""
        self._queues.kept.clear()
        self.lost_claims.doubtful.set()
        self.wake()

    async def claim_all(self, stopping: asyncio.Event) -> None:
        """Claim until told to stop."""
        async with asyncio.TaskGroup() as group:
            for claimer in self._claimers.values():
                group.create_task(claimer.claim_all(stopping))

    def unready(self) -> str | None:
        """Say for how long it has not looked for jobs, if for too long."""
        looked_at = min(claimer.looked_at for claimer in self._claimers.values())
        return stalled("it has not looked for jobs", time.monotonic() - looked_at)

    def _kill(self, id: object) -> None:
        self.attempts.kill(id)
        for killed in self._unanswered.values():
            killed.append(id)

    def _wake(self) -> None:
        for claimer in self._claimers.values():
            claimer.wake()

    def _ring(self, name: object) -> None:
        for queue in self._queues.rung(name):
            self._claimers[queue.limited].wake()

    def _ended(self, queue: Queue) -> None:
        if queue.hungry:
            self._claimers[queue.limited].make_room(queue)

    def _relieved(self, queue: Queue) -> None:
        """Look for jobs that a limit over all nodes leaves waiting, now that one counts no more."""
        if queue.full:
            queue.hungry = True
            self._claimers[queue.limited].make_room(queue)

    def _look_blindly_in(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._look_blindly)

    def _look_blindly(self) -> None:
        """Look at every queue, again and again until a heartbeat is answered."""
        self.wake()
        self._silence = self._look_blindly_in(POLL)
