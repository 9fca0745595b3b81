"""One worker process: register, claim, run, ack, beat, drain. It is a child of the supervisor."""

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import quarterjack
from quarterjack import channels, health, migrate
from quarterjack.clock import within
from quarterjack.database import LOST, Address, Pool, from_environment, open_pool, patiently
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
    async with (
        health.answering(place, blocked_after=BLOCKED_AFTER) as answers,
        open_pool(address, name=name, size=POOL_SIZE, patience=PATIENCE, reset=False) as pool,
        open_pool(
            address, name=f"{name} jobs", size=HANDLER_POOL_SIZE, patience=PATIENCE
        ) as handlers_pool,
    ):
        queues = Queues(settings.queues, settings.producers(life), node)
        await patiently(partial(_introduce, pool, node, queues), PATIENCE)
        worker = Worker(address, pool, handlers_pool, node, queues, settings, turns, marks)
        answers.unready, answers.measures = worker.unready, worker.measures
        log.info("worker %s started: %s", node, settings.queue_words())
        await worker.work(settings.grace)
    if worker.condemned:
        log.error("this worker was declared dead while it was silent; starting anew")
        return CONDEMNED
    log.info("worker %s stopped", node)
    return STOPPED


class Worker:
    """The parts of this process, and how they hear of each other."""

    def __init__(
        self,
        address: Address,
        pool: Pool,
        handlers_pool: Pool,
        node: str,
        queues: Queues,
        settings: Settings,
        turns: int,
        marks: int | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.condemned = False
        self._stopping = stop_event()
        self._pool, self._queues = pool, queues
        self._telemetry = Telemetry("quarterjack-worker", node)
        self._acker = Acker(pool, self._telemetry)
        self._processes = Processes(REGISTRY, settings.processes, settings.modules)
        self._journals = Journals()
        self._web = ObanWeb(node, queues)
        runner = Runner(
            REGISTRY,
            MIDDLEWARE,
            pool=handlers_pool,
            told=self._journals.changed,
            threads=ThreadPoolExecutor(LARGEST, thread_name_prefix="job"),
            processes=self._processes,
        )
        logging.getLogger().addHandler(Capture())
        self._engine = Engine(
            pool,
            node,
            queues,
            runner,
            acker=self._acker,
            telemetry=self._telemetry,
            web=self._web,
            marks=marks,
        )
        self._loop_watch = LoopWatch(self._engine.attempts, self._telemetry)
        self._heartbeat = Heartbeat(
            address,
            node,
            queues.producing,
            asked=lambda asked, at: loop.call_soon_threadsafe(self._follow, asked, at),
            condemned=lambda: loop.call_soon_threadsafe(self._give_up),
            turns=turns,
        )
        self._listener = Listener(
            address,
            pool,
            (channels.INSERT, channels.QUEUES, channels.SIGNAL, channels.CRONITOR),
            heard=self._heard,
            gap=self._engine.reconnected,
            who=f"quarterjack-worker {node} listener",
        )
        self.measures = partial(
            measure, queues, self._acker, self._engine.attempts.endings, self._loop_watch
        )

    async def work(self, grace: float) -> None:
        """Work until told to stop; what runs then has `grace` seconds to end."""
        self._heartbeat.start()
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(duty) for duty in self._duties()]
            claiming = group.create_task(self._engine.claim_all(self._stopping))
            await self._stopping.wait()
            await self._drain(claiming, 0 if self.condemned else grace)
            for task in beside:
                task.cancel()
        await self._heartbeat.stop()

    def unready(self) -> str | None:
        """Say why this worker does not get on; called in another thread."""
        if self._stopping.is_set():
            return "it is stopping"
        return self._heartbeat.unready() or self._engine.unready()

    def _duties(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._listener.run(),
            self._acker.run(),
            self._engine.lost_claims.run(),
            self._heartbeat.watch(),
            self._loop_watch.run(),
            remember(self._queues, self._pool),
            look_beyond(self._queues, self._pool),
            self._telemetry.run(self._pool),
            self._web.run(self._pool, self._engine.attempts.running),
            self._journals.run(self._pool),
        ]

    async def _drain(self, claiming: asyncio.Task[None], grace: float) -> None:
        """Claim no more, let what runs end within the grace, and write what is left to write."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        self._engine.wake()
        await within(LATE, claiming)  # what it takes later does not begin, and goes back
        self._heartbeat.draining = True
        await self._engine.attempts.drain(max(0.0, end - loop.time()))
        await self._processes.close()
        await self._flush(max(0.0, end - loop.time()) + LAST_WORDS)

    async def _flush(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._acker.flush()
                await self._journals.flush(self._pool)
                await self._telemetry.flush(self._pool)
        except TimeoutError:
            log.error("some outcomes could not be written; their jobs will run again")
        except LOST as error:
            log.error("some outcomes could not be written: %s", error)

    def _give_up(self) -> None:
        self.condemned = True
        self._stopping.set()

    def _follow(self, asked: Mapping[UUID, Asked], read_at: float) -> None:
        if self._queues.follow(asked, read_at):
            self._engine.wake()
        self._engine.beaten(self._queues.waiting(asked))

    def _heard(self, channel: str, message: dict[str, Any]) -> None:
        if channel == channels.CRONITOR:
            self._web.heard(message)
        else:
            self._engine.heard(channel, message)


async def _introduce(pool: Pool, node: str, queues: Queues) -> None:
    await migrate.check_for_service(pool)
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
