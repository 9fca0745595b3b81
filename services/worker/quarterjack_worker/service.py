"""One worker process: register, claim, run, ack, beat, drain. It is a child of the supervisor."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import quarterjack
from quarterjack import channels, health, migrate
from quarterjack.clock import within
from quarterjack.database import LOST, Pool, from_environment, open_pool, patiently
from quarterjack.listener import Listener
from quarterjack.oban_web import NAME
from quarterjack.process import node_name, stop_event
from quarterjack.queries import catalogue, producers
from quarterjack.queries.producers import Asked
from quarterjack.telemetry import Telemetry
from quarterjack_worker.acker import Acker
from quarterjack_worker.attempts import LATE
from quarterjack_worker.crowds import look_beyond
from quarterjack_worker.engine import Engine
from quarterjack_worker.handlers.middleware import MIDDLEWARE
from quarterjack_worker.handlers.processes import Processes
from quarterjack_worker.handlers.registry import REGISTRY, import_jobs
from quarterjack_worker.handlers.runner import Runner
from quarterjack_worker.handlers.telling import Capture
from quarterjack_worker.heartbeat import Heartbeat
from quarterjack_worker.journals import Journals
from quarterjack_worker.loop_watch import LoopWatch
from quarterjack_worker.measures import measure
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queues
from quarterjack_worker.settings import CONDEMNED, LARGEST, STOPPED, Settings
from quarterjack_worker.steering import remember

log = logging.getLogger(__name__)

PATIENCE = 60.0
POOL_SIZE = 5
HANDLER_POOL_SIZE = 10
LAST_WORDS = 5.0
BLOCKED_AFTER = 300.0
"""Seconds after which a handler that blocks the event loop is not waited for: /live says that this is no life."""


async def serve(settings: Settings, life: UUID, turns: int, marks: int | None) -> int:
    """Serve until SIGTERM; shows on the descriptor `turns` that it has begun, and lives. Waits for the database.

    In the memory `marks` it shows which jobs have begun.
    """
    import_jobs(settings.modules)
    address, node, place = from_environment(), node_name(), health.from_environment()
    name = f"quarterjack-worker {node}"
    loop = asyncio.get_running_loop()
    async with (
        health.answering(place, blocked_after=BLOCKED_AFTER) as answers,
        open_pool(address, name=name, size=POOL_SIZE, patience=PATIENCE, reset=False) as pool,
        open_pool(
            address, name=f"{name} jobs", size=HANDLER_POOL_SIZE, patience=PATIENCE
        ) as handlers_pool,
    ):
        queues = Queues(settings.queues, settings.producers(life), node)
        await patiently(partial(_introduce, pool, node, queues), PATIENCE)
        stopping, condemned = stop_event(), asyncio.Event()  # until now a signal ends it at once
        telemetry = Telemetry("quarterjack-worker", node)
        acker = Acker(pool, telemetry)
        threads = ThreadPoolExecutor(LARGEST, thread_name_prefix="job")
        processes = Processes(REGISTRY, settings.processes, settings.modules)
        journals = Journals()
        runner = Runner(
            REGISTRY,
            MIDDLEWARE,
            pool=handlers_pool,
            told=journals.changed,
            threads=threads,
            processes=processes,
        )
        logging.getLogger().addHandler(Capture())
        web = ObanWeb(node, queues)
        engine = Engine(
            pool, node, queues, runner, acker=acker, telemetry=telemetry, web=web, marks=marks
        )

        loop_watch = LoopWatch(engine.attempts, telemetry)

        def give_up() -> None:
            condemned.set()
            stopping.set()

        def follow(asked: Mapping[UUID, Asked], read_at: float) -> None:
            if queues.follow(asked, read_at):
                engine.wake()
            engine.beaten(queues.waiting(asked))

        heartbeat = Heartbeat(
            address,
            node,
            queues.producing,
            asked=lambda asked, at: loop.call_soon_threadsafe(follow, asked, at),
            condemned=lambda: loop.call_soon_threadsafe(give_up),
            turns=turns,
        )

        def heard(channel: str, message: dict[str, Any]) -> None:
            if channel == channels.CRONITOR:
                web.heard(message)
            else:
                engine.heard(channel, message)

        listener = Listener(
            address,
            pool,
            (channels.INSERT, channels.QUEUES, channels.SIGNAL, channels.CRONITOR),
            heard=heard,
            gap=engine.reconnected,
            who=f"{name} listener",
        )
        heartbeat.start()
        answers.unready = lambda: (
            "it is stopping" if stopping.is_set() else heartbeat.unready() or engine.unready()
        )
        answers.measures = partial(measure, queues, acker, loop_watch)
        log.info("worker %s started: %s", node, settings.queue_words())
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(work)
                for work in (
                    listener.run(),
                    acker.run(),
                    engine.lost_claims.run(),
                    heartbeat.watch(),
                    loop_watch.run(),
                    remember(queues, pool),
                    look_beyond(queues, pool),
                    telemetry.run(pool),
                    web.run(pool, engine.attempts.running),
                    journals.run(pool),
                )
            ]
            claiming = group.create_task(engine.claim_all(stopping))
            await stopping.wait()
            end = loop.time() + (0 if condemned.is_set() else settings.grace)
            engine.wake()
            await within(LATE, claiming)  # what it takes later does not begin, and goes back
            heartbeat.draining = True
            await engine.attempts.drain(max(0.0, end - loop.time()))
            await processes.close()
            await _flush(acker, journals, telemetry, pool, max(0.0, end - loop.time()) + LAST_WORDS)
            for task in beside:
                task.cancel()
        await heartbeat.stop()
    if condemned.is_set():
        log.error("this worker was declared dead while it was silent; starting anew")
        return CONDEMNED
    log.info("worker %s stopped", node)
    return STOPPED


async def _introduce(pool: Pool, node: str, queues: Queues) -> None:
    await migrate.check(pool)
    types = [type.registration() for type in REGISTRY.values()]
    await catalogue.register(pool, types, node=node)
    for name in await catalogue.seed(pool, types):
        log.info("made the default schedule %s", name)
    await producers.register(
        pool,
        node=node,
        pid=os.getppid(),
        version=quarterjack.__version__,
        name=NAME,
        producers=queues.producing(),
    )
    read_at = time.monotonic()
    asked = await producers.asked(pool, [queue.producer for queue in queues])
    queues.follow(asked, read_at)


async def _flush(
    acker: Acker, journals: Journals, telemetry: Telemetry, pool: Pool, patience: float
) -> None:
    try:
        async with asyncio.timeout(patience):
            await acker.flush()
            await journals.flush(pool)
            await telemetry.flush(pool)
    except TimeoutError:
        log.error("some outcomes could not be written; their jobs will run again")
    except LOST as error:
        log.error("some outcomes could not be written: %s", error)
