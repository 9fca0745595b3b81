"""Looks for schedules that need a person and tells about them; every replica does, leader or not."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from threading import Thread

from quarterjack.asking import ask
from quarterjack.clock import within
from quarterjack.database import LOST, Connection, Pool
from quarterjack.queries import alerts, deliveries
from quarterjack.queries.deliveries import Delivery
from quarterjack_scheduler.alert_channels import UNDELIVERED, Channel, Told, describe

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
ANSWER_WITHIN = 30.0
AT_ONCE = 500
SENT_WITHIN = 60.0
LEASE = timedelta(minutes=2)
FIRST_RETRY = timedelta(seconds=5)
LAST_RETRY = timedelta(minutes=10)
DOUBLED = 7


class Alerts:
    """The dead-man's switch of this replica, and its share of the messages."""

    def __init__(self, pool: Pool, told: Told) -> None:
        self._pool = pool
        self._told = told
        self._names = [channel.name for channel in told.channels]
        self._woken = {name: asyncio.Event() for name in self._names}

    async def run(self) -> None:
        """Look and deliver until cancelled; a channel that fails or hangs keeps only itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_again(self._watch, "look for late schedules", asyncio.Event()))
            for channel in self._told.channels:
                work = partial(self._deliver, channel)
                group.create_task(_again(work, "deliver alerts", self._woken[channel.name]))

    async def pause_failing(self, db: Connection) -> float:
        """Pause what keeps failing, for the leader; seconds to rest after it."""
        self._log(await alerts.pause_failing(db, channels=self._names))
        return LOOK_EVERY

    async def _watch(self) -> None:
        await ask(self._pool, self._look, ANSWER_WITHIN)

    async def _look(self, db: Connection) -> None:
        await alerts.note_completions(db)
        self._log(await alerts.raise_late(db, channels=self._names, limit=AT_ONCE))
        resolved = await alerts.resolve(db)
        for alert in resolved:
            log.info("resolved alert %d: %s", alert.id, alert.resolution)
        if resolved:
            self._wake()

    def _log(self, raised: list[alerts.Alert]) -> None:
        for alert in raised:
            log.error("alert %d: %s", alert.id, alert.message)
        if raised:
            self._wake()

    def _wake(self) -> None:
        for event in self._woken.values():
            event.set()

    async def _deliver(self, channel: Channel) -> None:
        """Send what is due, one after another; the first failure gives the channel a rest."""
        take = partial(deliveries.take, channel=channel.name, lease=LEASE)
        while (delivery := await ask(self._pool, take, ANSWER_WITHIN)) is not None:
            try:
                async with asyncio.timeout(SENT_WITHIN):
                    page = self._told.page(delivery.alert.schedule)
                    await _aside(partial(channel.send, delivery, page))
            except UNDELIVERED as error:
                await self._put_off(delivery, describe(error))
                return
            await ask(self._pool, partial(deliveries.delivered, delivery=delivery), ANSWER_WITHIN)
            log.info("told alert %d (%s) by %s", delivery.alert.id, delivery.event, channel.name)

    async def _put_off(self, delivery: Delivery, error: str) -> None:
        again_in = min(LAST_RETRY, FIRST_RETRY * 2 ** min(delivery.attempts - 1, DOUBLED))
        log.warning(
            "could not tell alert %d by %s: %s; trying again in %d s",
            delivery.alert.id,
            delivery.channel,
            error,
            again_in.total_seconds(),
        )
        failed = partial(deliveries.failed, delivery=delivery, error=error, again_in=again_in)
        await ask(self._pool, failed, ANSWER_WITHIN)


async def _aside(send: Callable[[], None]) -> None:
    """Send in a thread that the end of this process does not wait for, however slowly it is answered."""
    sent = Future[None]()
    sent.set_running_or_notify_cancel()

    def work() -> None:
        try:
            send()
        except Exception as error:
            sent.set_exception(error)
        else:
            sent.set_result(None)

    Thread(target=work, name="alerts", daemon=True).start()
    await asyncio.wrap_future(sent)


async def _again(
    work: Callable[[], Coroutine[None, None, None]], what: str, woken: asyncio.Event
) -> None:
    """Do the work every few seconds, or sooner when woken; a lost database is awaited."""
    reachable = True
    while True:
        woken.clear()
        try:
            await work()
            reachable = True
        except LOST as error:
            if reachable:
                log.warning("could not %s: %s; trying again", what, error)
            reachable = False
        await within(LOOK_EVERY, woken.wait())
