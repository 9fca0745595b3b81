"""One scheduler replica: election, tick loop, upkeep and listener, until told to stop."""

import asyncio
import logging
from functools import partial
from typing import Any

from quarterjack import channels, migrate
from quarterjack.database import Address, Pool, from_environment, open_pool, patiently
from quarterjack.listener import Listener
from quarterjack.process import node_name, stop_event
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler import alert_channels, retention
from quarterjack_scheduler.alerts import Alerts
from quarterjack_scheduler.backfill import Backfiller
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.tick_loop import TickLoop
from quarterjack_scheduler.upkeep import Pruner, Rescuer, repeat, stage

log = logging.getLogger(__name__)

PATIENCE = 60.0


async def serve() -> int:
    """Serve until SIGTERM; waits up to a minute for the database and refuses one that does not fit."""
    address, keep, node = from_environment(), retention.from_environment(), node_name()
    told = alert_channels.from_environment()
    stopping = stop_event()
    name = f"quarterjack-scheduler {node}"
    async with open_pool(address, name=name, size=6, patience=PATIENCE, reset=False) as pool:
        await patiently(partial(migrate.check, pool), PATIENCE)
        loop = asyncio.get_running_loop()
        telemetry = Telemetry("quarterjack-scheduler", node)
        election = Election(
            address, Peer.named(node), changed=lambda: loop.call_soon_threadsafe(ticks.wake)
        )
        ticks = TickLoop(pool, election, schema=address.schema, telemetry=telemetry)
        alerts = Alerts(pool, told)
        pruner, staging = Pruner(keep, own_traces=telemetry.on), asyncio.Event()
        filling, filler = asyncio.Event(), Backfiller(election)
        log.info("scheduler %s started", node)
        election.start()
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(
                        _listen(address, pool, election, ticks, staging, filling, name)
                    ),
                    group.create_task(telemetry.run(pool)),
                    group.create_task(repeat(pool, election, stage, "stage jobs", woken=staging)),
                    group.create_task(
                        repeat(pool, election, filler.step, "backfill", woken=filling)
                    ),
                    group.create_task(repeat(pool, election, Rescuer().sweep, "rescue jobs")),
                    group.create_task(repeat(pool, election, pruner.prune, "prune")),
                    group.create_task(repeat(pool, election, alerts.pause_failing, "pause")),
                    group.create_task(alerts.run()),
                ]
                ticking = group.create_task(ticks.run(stopping))
                await stopping.wait()
                ticks.wake()
                await ticking
                for task in beside:
                    task.cancel()
        finally:
            await election.stop()
        await telemetry.flush(pool)
    log.info("scheduler %s stopped", node)
    return 0


async def _listen(
    address: Address,
    pool: Pool,
    election: Election,
    ticks: TickLoop,
    staging: asyncio.Event,
    filling: asyncio.Event,
    name: str,
) -> None:
    def heard(channel: str, message: dict[str, Any]) -> None:
        if channel == channels.SCHEDULES:
            ticks.wake()
            filling.set()
        elif channel == channels.DUE:
            staging.set()
        elif message.get("action") == "resigned":
            election.wake()

    def gap() -> None:
        ticks.wake()
        staging.set()
        filling.set()
        election.wake()

    names = (channels.SCHEDULES, channels.SCHEDULER, channels.DUE)
    await Listener(address, pool, names, heard=heard, gap=gap, who=f"{name} listener").run()
