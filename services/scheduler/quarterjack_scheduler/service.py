"""One scheduler replica: election, tick loop, upkeep and listener, until told to stop."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from quarterjack import channels, health, migrate
from quarterjack.database import Address, Pool, from_environment, open_pool, patiently
from quarterjack.listener import Listener
from quarterjack.process import node_name, stop_event
from quarterjack.queries.outlook import Outlook
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler import alert_channels, reindexing, retention
from quarterjack_scheduler.alert_channels import Told
from quarterjack_scheduler.alerts import Alerts
from quarterjack_scheduler.backfill import Backfiller
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.measures import Backlog, measure
from quarterjack_scheduler.oban_web import ObanWeb
from quarterjack_scheduler.retention import Retention
from quarterjack_scheduler.settling import Settler
from quarterjack_scheduler.tick_loop import TickLoop
from quarterjack_scheduler.turns import Turn
from quarterjack_scheduler.upkeep import Pruner, Rescuer, repeat, stage

log = logging.getLogger(__name__)

PATIENCE = 60.0
BLOCKED_AFTER = 30.0
LISTENED_TO = (
    channels.SCHEDULES,
    channels.SCHEDULER,
    channels.DUE,
    channels.ENDED,
    channels.CRONITOR,
    channels.METRICS,
)


async def serve() -> int:
    """Serve until SIGTERM; waits up to a minute for the database and refuses one that does not fit."""
    address, keep, node = from_environment(), retention.from_environment(), node_name()
    told, place = alert_channels.from_environment(), health.from_environment()
    name = f"quarterjack-scheduler {node}"
    async with (
        health.answering(place, blocked_after=BLOCKED_AFTER) as answers,
        open_pool(address, name=name, size=6, patience=PATIENCE, reset=False) as pool,
    ):
        await patiently(partial(migrate.check_for_service, pool), PATIENCE)
        replica = Replica(address, pool, node, keep, told, measured=place is not None)
        stopping = stop_event()
        answers.unready, answers.measures = replica.unready, replica.measures
        log.info("scheduler %s started", node)
        await replica.work(stopping)
    log.info("scheduler %s stopped", node)
    return 0


class Replica:
    """The loops of this process: one that decides ticks, and those of the other duties, each with its turn."""

    def __init__(
        self,
        address: Address,
        pool: Pool,
        node: str,
        keep: Retention,
        told: Told,
        *,
        measured: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._pool = pool
        self._telemetry = Telemetry("quarterjack-scheduler", node)
        self._election = Election(
            address,
            Peer.named(node),
            changed=lambda: loop.call_soon_threadsafe(self._ticks.wake),
        )
        self._ticks = TickLoop(
            pool,
            self._election,
            schema=address.schema,
            telemetry=self._telemetry,
            told=self._share,
        )
        self._rescuer = Rescuer()
        self._pruner = Pruner(keep, own_traces=self._telemetry.on)
        self._alerts = Alerts(pool, told)
        self._web = ObanWeb(node)
        self._backlog, self._measured = Backlog(), measured
        self.measures = partial(measure, self._election, self._ticks.tally, self._backlog)
        self._staging, self._rescuing = Turn(), Turn()
        self._filling, self._settling = Turn(), Turn()
        self._listener = Listener(
            address,
            pool,
            LISTENED_TO,
            heard=self._heard,
            gap=self._look_everywhere,
            who=f"quarterjack-scheduler {node} listener",
        )
        self._stopping = False

    async def work(self, stopping: asyncio.Event) -> None:
        """Work until told to stop, then resign."""
        self._election.start()
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(duty) for duty in self._duties()]
                ticking = group.create_task(self._ticks.run(stopping))
                await stopping.wait()
                self._stopping = True
                self._ticks.wake()
                await ticking
                for task in beside:
                    task.cancel()
        finally:
            await self._election.stop()
        await self._telemetry.flush(self._pool)

    def unready(self) -> str | None:
        """Say why this replica does not get on; called in another thread."""
        if self._stopping:
            return "it is stopping"
        return self._election.unready() or self._ticks.unready()

    def _duties(self) -> list[Coroutine[Any, Any, None]]:
        each = partial(repeat, self._pool, self._election)
        return [
            self._listener.run(),
            self._telemetry.run(self._pool),
            self._alerts.run(),
            each(stage, "stage jobs", turn=self._staging),
            each(self._rescuer.sweep, "rescue jobs", turn=self._rescuing),
            each(Backfiller(self._election).step, "backfill", turn=self._filling),
            each(Settler().settle, "settle what ended", turn=self._settling),
            each(self._pruner.prune, "prune"),
            each(reindexing.reindex, "reindex", patience=reindexing.WITHIN),
            each(self._alerts.pause_failing, "pause"),
            each(self._web.tell, "tell Oban Web", turn=self._web.turn),
            *([each(self._backlog.look, "count what waits")] if self._measured else ()),
        ]

    def _share(self, seen: Outlook) -> None:
        """Tell the other duties what the tick loop saw for them."""
        offset = self._election.offset
        self._rescuing.tell(self._rescuer.saw(orphaned=seen.orphaned, offset=offset))
        self._staging.tell(seen.jobs_in)
        self._settling.tell(timedelta(0) if seen.ended else None)
        self._filling.tell(seen.backfills_in)

    def _heard(self, channel: str, message: dict[str, Any]) -> None:
        if channel == channels.SCHEDULES:
            self._ticks.wake()
            self._filling.ring()
        elif channel == channels.DUE:
            self._staging.ring()
        elif channel == channels.ENDED:
            self._settling.ring()
        elif channel in (channels.CRONITOR, channels.METRICS):
            self._web.heard(channel, message)
        elif message.get("action") == "resigned":
            self._election.wake()

    def _look_everywhere(self) -> None:
        self._ticks.wake()
        self._staging.ring()
        self._settling.ring()
        self._filling.ring()
        self._election.wake()
