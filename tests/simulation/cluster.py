"""Replicas of the scheduler on one virtual clock, and a network that loses, delays and repeats.

The loops are the real ones: TickLoop and Election. Only their statements go to the Postgres in memory, each with
a fate of its own.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from quarterjack.queries import (
    calendars,
    clock,
    jobs,
    lease,
    losses,
    notifications,
    outlook,
    plans,
    ticks,
)
from quarterjack.telemetry import Telemetry
from quarterjack_scheduler import election as elections
from quarterjack_scheduler import striker, tick_loop
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.tick_loop import TickLoop
from tests.simulation.postgres import Postgres

BEGAN = datetime(2026, 11, 24, 8, tzinfo=UTC)
FATES = ("ok", "refused", "reply lost", "late", "twice", "slow", "silent")
STATEMENTS = (
    *((lease, name) for name in ("beat", "acquire", "resign")),
    *((plans, name) for name in ("unplanned", "plan", "mark_broken", "resume_due")),
    *((ticks, name) for name in ("due", "strike")),
    (outlook, "look"),
)
NOTHING: tuple[tuple[Any, str, Any], ...] = (
    (calendars, "named", {}),
    (jobs, "ring", None),
    (jobs, "stop", None),
    (losses, "report", []),
    (notifications, "send", None),
)


def boot() -> float:
    return asyncio.get_running_loop().time()


def connect_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead every statement of the scheduler to the connection that it is given."""
    for module, name in STATEMENTS:
        monkeypatch.setattr(module, name, partial(_send, name))
    for module, name, answer in NOTHING:
        monkeypatch.setattr(module, name, partial(_answer, answer))
    monkeypatch.setattr(clock, "now", partial(_send, "now"))
    monkeypatch.setattr(elections, "connect", _connect)
    for module in (elections, striker, tick_loop):
        monkeypatch.setattr(module, "boot", boot)


async def _send(name: str, db: "Session", **given: Any) -> Any:
    return await db.call(name, given)


async def _answer(answer: Any, db: "Session", *_: Any, **__: Any) -> Any:
    await db.call("now", {})
    return answer


async def _connect(address: Any, **_: Any) -> "Session":
    node: Node = address
    return await node.connect()


class Session:
    """A connection of one node."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._closed = False
        self._answers: set[asyncio.Future[Any]] = set()
        self._listeners: set[Callable[[object], object]] = set()
        node.cluster.postgres.sessions.add(self)
        node.sessions.append(self)

    def is_closed(self) -> bool:
        return self._closed

    def terminate(self) -> None:
        if not self._closed:
            self._closed = True
            self._node.cluster.postgres.sessions.discard(self)
            for answer in self._answers:
                if not answer.done():
                    answer.set_exception(ConnectionResetError("connection lost"))
            for listener in list(self._listeners):
                listener(self)

    def add_termination_listener(self, listener: Callable[[object], object]) -> None:
        self._listeners.add(listener)

    async def call(self, name: str, given: dict[str, Any]) -> Any:
        """Send one statement; its fate is drawn when it leaves the node."""
        await self._node.running.wait()
        cluster, loop = self._node.cluster, asyncio.get_running_loop()
        if self._closed or not cluster.reachable:
            self.terminate()
            raise ConnectionResetError("no connection")
        answer: asyncio.Future[Any] = loop.create_future()
        self._answers.add(answer)
        self._send(cluster.fate(), name, given, answer)
        try:
            result = await answer
        finally:
            self._answers.discard(answer)
        await self._node.running.wait()
        return result

    def _send(
        self, fate: str, name: str, given: dict[str, Any], answer: "asyncio.Future[Any]"
    ) -> None:
        cluster, later = self._node.cluster, asyncio.get_running_loop().call_later
        travel, delay = cluster.travel(), cluster.delay()
        if fate in ("ok", "twice"):
            later(travel, self._apply, name, given, answer)
        if fate == "slow":
            later(delay, self._apply, name, given, answer)
        if fate == "reply lost":
            later(travel, self._apply, name, given, None)
        if fate in ("late", "twice"):
            later(delay, self._apply, name, given, None)
        if fate in ("refused", "late", "reply lost"):
            later(travel, self.terminate)

    def _apply(self, name: str, given: dict[str, Any], answer: Any) -> None:
        cluster = self._node.cluster
        if not cluster.reachable:
            return self.terminate()
        try:
            ask = getattr(cluster.postgres, name)
            result = ask() if name == "now" else ask(self, **given)
        except AssertionError as error:
            cluster.alarms.append(str(error))
            return self.terminate()
        if answer is not None and not answer.done():
            answer.set_result(result)
        return None


@dataclass(slots=True)
class Node:
    """One replica; it can be killed, paused, asked to end and started anew."""

    cluster: "Cluster"
    name: str
    running: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: list[Session] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None

    @property
    def direct_url(self) -> str:
        return ""

    @property
    def schema(self) -> str:
        return "public"

    def start(self) -> None:
        self.kill()
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        self.running.set()
        address: Any = self
        election = Election(address, Peer.named(self.name), changed=lambda: loops.wake())
        pool: Any = self
        loops = TickLoop(
            pool, election, schema="public", telemetry=Telemetry("scheduler", self.name)
        )
        self.tasks = [
            loop.create_task(election.run()),
            loop.create_task(loops.run(stopping)),
        ]

        def stop() -> None:
            stopping.set()
            loops.wake()
            election.leave()

        self.stop = stop

    def kill(self) -> None:
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception():
                self.cluster.alarms.append(repr(task.exception()))
            task.cancel()
        self.end_sessions()

    def end_sessions(self) -> None:
        for session in self.sessions:
            session.terminate()
        self.sessions.clear()

    async def connect(self) -> Session:
        await self.running.wait()
        if not self.cluster.reachable:
            raise ConnectionRefusedError("the database is away")
        return Session(self)

    async def acquire(self, *, timeout: float) -> Session:
        return await self.connect()

    async def release(self, session: Session) -> None:
        """A session that nobody uses does nothing."""


class Cluster:
    """The replicas, the database between them, and the dice."""

    def __init__(self, seed: int, *, trouble: float, without: str | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.postgres = Postgres(BEGAN, loop.time, without=without)
        self.dice = random.Random(seed)
        self.trouble = trouble
        self.reachable = True
        self.alarms: list[str] = []
        self.nodes = [Node(self, f"scheduler-{number}") for number in (1, 2)]

    def fate(self) -> str:
        return self.dice.choice(FATES[1:]) if self.dice.random() < self.trouble else "ok"

    def travel(self) -> float:
        return self.dice.uniform(0.001, 0.02)

    def delay(self) -> float:
        return self.dice.uniform(0.05, 4.0)

    def end_sessions(self) -> None:
        for node in self.nodes:
            node.end_sessions()

    def heal(self) -> None:
        """Leave it undisturbed: no more trouble, everybody runs, and no pause runs out at the last moment."""
        self.trouble, self.reachable = 0.0, True
        self.postgres.locked.clear()
        for row in self.postgres.state.schedules.values():
            row["resume_at"] = None
        for node in self.nodes:
            node.running.set()
            if any(task.done() for task in node.tasks):
                node.kill()
                node.start()
