"""Replicas of the scheduler on one virtual clock, and a network that loses, delays and repeats.

The loops are the real ones: TickLoop and Election. Only their statements go to the Postgres in memory, each with
a fate of its own.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from quarterjack.queries import (
    calendars,
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
from quarterjack_scheduler import tick_loop
from quarterjack_scheduler.election import Election, Peer
from quarterjack_scheduler.tick_loop import TickLoop
from tests.simulation.postgres import Postgres

BEGAN = datetime(2026, 11, 24, 8, tzinfo=UTC)
FATES = ("ok", "refused", "reply lost", "late", "twice")
STATEMENTS = (
    *((lease, name) for name in ("beat", "acquire", "resign")),
    *((plans, name) for name in ("unplanned", "plan", "mark_broken")),
    *((ticks, name) for name in ("due", "strike")),
    (outlook, "look"),
)
NOTHING: tuple[tuple[Any, str, Any], ...] = (
    (plans, "resume_due", []),
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
    monkeypatch.setattr(ticks, "now", partial(_send, "now"))
    monkeypatch.setattr(elections, "connect", _connect)
    for module in (elections, tick_loop):
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
        self._listeners: set[Callable[[object], object]] = set()
        node.cluster.postgres.sessions.add(self)
        node.sessions.append(self)

    def is_closed(self) -> bool:
        return self._closed

    def terminate(self) -> None:
        if not self._closed:
            self._closed = True
            self._node.cluster.postgres.sessions.discard(self)
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
        fate, answer = cluster.fate(), loop.create_future()
        travel, later = cluster.travel(), cluster.delay()
        if fate == "refused":
            loop.call_later(travel, self._break, answer)
        elif fate == "late":
            loop.call_later(travel, self._break, answer)
            loop.call_later(later, self._apply, name, given, None)
        else:
            reply = answer if fate in ("ok", "twice") else None
            loop.call_later(travel, self._apply, name, given, reply)
            if fate == "twice":
                loop.call_later(later, self._apply, name, given, None)
            if reply is None:
                loop.call_later(travel, self._break, answer)
        result = await answer
        await self._node.running.wait()
        return result

    def _apply(self, name: str, given: dict[str, Any], answer: Any) -> None:
        cluster = self._node.cluster
        if not cluster.reachable:
            return self._break(answer)
        try:
            ask = getattr(cluster.postgres, name)
            result = ask() if name == "now" else ask(self, **given)
        except AssertionError as error:
            cluster.alarms.append(str(error))
            return self._break(answer)
        if answer is not None and not answer.done():
            answer.set_result(result)
        return None

    def _break(self, answer: Any) -> None:
        self.terminate()
        if answer is not None and not answer.done():
            answer.set_exception(ConnectionResetError("connection lost"))


@dataclass(slots=True)
class Node:
    """One replica; it can be killed, paused and started anew."""

    cluster: "Cluster"
    name: str
    running: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: list[Session] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def direct_url(self) -> str:
        return ""

    @property
    def schema(self) -> str:
        return "public"

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.running.set()
        address: Any = self
        election = Election(address, Peer.named(self.name), changed=lambda: loops.wake())
        pool: Any = self
        loops = TickLoop(
            pool, election, schema="public", telemetry=Telemetry("scheduler", self.name)
        )
        self.tasks = [
            loop.create_task(election.run()),
            loop.create_task(loops.run(asyncio.Event())),
        ]

    def kill(self) -> None:
        for task in self.tasks:
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

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[Session]:
        yield await self.connect()


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
        """Leave it undisturbed: no more trouble, everybody runs."""
        self.trouble, self.reachable = 0.0, True
        for node in self.nodes:
            node.running.set()
            if any(task.done() for task in node.tasks):
                node.kill()
                node.start()
