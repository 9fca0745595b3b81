"""Tells Oban Web, while there is one, what this process runs and what has ended."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from quarterjack import oban_web
from quarterjack.asking import ask
from quarterjack.clock import until_next
from quarterjack.database import LOST, Pool
from quarterjack.model import Job
from quarterjack.oban_web import Audience, Check, Ended
from quarterjack.queries import notifications
from quarterjack_worker.queues import Queues

log = logging.getLogger(__name__)

EVERY = 1.0
ANSWER_WITHIN = 5.0
MICROSECOND = timedelta(microseconds=1)
Running = Callable[[], Mapping[str, Sequence[int]]]


class ObanWeb:
    """Collects what has ended; `run` tells it once a second, with what `running` says of each queue."""

    def __init__(self, node: str, queues: Queues) -> None:
        self._node = node
        self._queues = queues
        self._started_at = datetime.now(UTC)
        self._audience = Audience()
        self._listening = False
        self._heard = asyncio.Event()
        self._ended: list[Ended] = []

    def heard(self, message: Mapping[str, Any]) -> None:
        """Take a message on `oban_cronitor`."""
        self._audience.heard(message)
        self._listening = self._audience.present
        if self._listening:
            self._heard.set()

    def ended(self, job: Job, state: str, *, ran: int) -> None:
        """Note an execution of so many nanoseconds; it is forgotten when nobody listens."""
        if not self._listening:
            return
        assert job.attempted_at is not None
        waited = (job.attempted_at - job.scheduled_at) // MICROSECOND * 1_000
        self._ended.append(
            Ended(queue=job.queue, worker=job.worker, state=state, ran=ran, waited=waited)
        )

    async def run(self, pool: Pool, running: Running) -> None:
        """Tell it until cancelled; what cannot be sent is dropped, for a second later it is old."""
        while True:
            await self._heard.wait()
            await asyncio.sleep(until_next(EVERY))
            self._listening = self._audience.present
            ended, self._ended = self._ended, []
            if not self._listening:
                self._heard.clear()
                continue
            told = oban_web.gossip(self._node, self._started_at, self._checks(running()))
            told += oban_web.executions(self._node, ended)
            try:
                await ask(pool, partial(notifications.send_all, messages=told), ANSWER_WITHIN)
            except LOST as error:
                log.debug("could not tell Oban Web: %s", error)

    def _checks(self, running: Mapping[str, Sequence[int]]) -> list[Check]:
        return [
            Check(
                uuid=queue.producer,
                queue=queue.name,
                limit=queue.limit,
                paused=queue.resting,
                running=running.get(queue.name, ()),
            )
            for queue in self._queues
            if not queue.stopped or running.get(queue.name)
        ]
