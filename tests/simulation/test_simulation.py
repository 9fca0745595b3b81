"""Thousands of histories of two replicas under trouble, each checked tick for tick."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterjack.queries.ticks import Due
from quarterjack_scheduler import striker
from quarterjack_scheduler.decide import Calendars, Verdict, decide
from tests.checks import STEPS, check
from tests.simulation.clock import run
from tests.simulation.cluster import BEGAN, Cluster, connect_loops
from tests.simulation.postgres import LINES

TROUBLE, REST = 7.0, 9.0
SHARDS, EXAMPLES = 8, 260
CRONS = sorted(STEPS)
ROW: dict[str, Any] = {
    "worker": "w",
    "timezone": "Etc/UTC",
    "dst": "once",
    "jitter": timedelta(0),
    "start_at": None,
    "end_at": None,
    "blackouts": [],
    "calendars": [],
    "args": {},
    "queue": "q",
    "priority": 0,
    "max_attempts": 20,
    "tags": [],
    "uniqueness": None,
    "catchup_window": timedelta(days=1),
    "catchup_limit": 100,
    "overlap": "allow",
    "timeout": None,
}
STOPPING = ("edit", "freeze", "freeze", "kill")
EDITING = ("edit", "edit", "touch", "freeze", "kill", "step")
Event = tuple[float, str, int]

times = st.integers(0, int(TROUBLE * 20)).map(lambda twentieths: twentieths / 20 + 0.003)
KINDS = ("kill", "stop", "freeze", "crash", "step", "lock", "failover", "edit", "touch", "pause")
histories = st.lists(
    st.tuples(times, st.sampled_from(KINDS), st.integers(0, 40)),
    max_size=6,
)


@pytest.fixture(autouse=True)
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    connect_loops(monkeypatch)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_history_keeps_the_guarantee(shard: int) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        events=histories,
        seed=st.integers(0, 10**6),
        trouble=st.sampled_from([0.0, 0.1, 0.4]),
    )
    def history(events: list[Event], seed: int, trouble: float) -> None:
        run(live(events, seed + shard * 10**6, trouble))

    history()


def test_the_whole_mechanism_holds_where_the_others_are_noticed() -> None:
    assert not _noticed(histories=300)


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_statement_that_is_left_out_is_noticed(line: str) -> None:
    draw = {"fence": _stops, "instant test of the plan": _versions_again}.get(line, _edits)
    assert _noticed(draw, without=line), f"no history needs the {line}"


def test_ticks_counted_from_now_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_newest(due: Due, now: datetime, known: Calendars) -> Verdict:
        verdict = decide(due, now, known)
        return replace(verdict, decisions=verdict.decisions[-1:])

    monkeypatch.setattr(striker, "decide", only_the_newest)

    assert _noticed()


def _edits(dice: random.Random, kinds: Sequence[str] = EDITING) -> list[Event]:
    return [
        (dice.randrange(140) / 20 + 0.003, dice.choice(kinds), dice.randrange(40)) for _ in range(8)
    ]


def _stops(dice: random.Random) -> list[Event]:
    return _edits(dice, STOPPING)


def _versions_again(dice: random.Random) -> list[Event]:
    """Draw edits that failovers lose, and others that get their versions while nobody is awake to plan them."""
    events: list[Event] = []
    for began in (0.5, 2.0, 3.5, 5.0):
        number, lost = dice.randrange(10) * 4, began + dice.random() * 0.3
        events += [
            (began, "edit", number),
            (lost, "failover", dice.randrange(8, 40)),
            *((lost + 0.01, "freeze", node + 10) for node in (0, 1)),
            (lost + 0.02, "edit", number + 4 * dice.randrange(1, 5)),
        ]
    return events


def _noticed(
    draw: Callable[[random.Random], list[Event]] = _edits,
    *,
    without: str | None = None,
    histories: int = 1_000,
) -> bool:
    """Say whether one of these histories, with many late requests, fails."""
    for seed in range(histories):
        events = draw(random.Random(seed))
        try:
            run(live(events, seed, 0.4, without=without))
        except AssertionError:
            if without is not None:
                run(live(events, seed, 0.4))  # nothing but the line is to blame
            return True
    return False


async def live(
    events: list[Event], seed: int, trouble: float, *, without: str | None = None
) -> None:
    """Live through the events, then a while undisturbed, and check what is in the tables."""
    random.seed(seed)
    loop = asyncio.get_running_loop()
    cluster = Cluster(seed, trouble=trouble, without=without)
    for id, (catchup, late) in enumerate((("last", 95), ("all", 95), ("skip", 40), ("all", 0))):
        row = {**ROW, "name": f"s{id}", "catchup": catchup, "cron": CRONS[(seed + id) % len(CRONS)]}
        cluster.postgres.add(id, row, BEGAN - timedelta(seconds=late + 0.5))
    for node in cluster.nodes:
        node.start()
    for at, kind, number in events:
        _plan(cluster, loop, at, kind, number)
    await asyncio.sleep(TROUBLE)
    cluster.heal()
    await asyncio.sleep(REST)
    for node in cluster.nodes:
        node.kill()
    assert not cluster.alarms, cluster.alarms
    check(cluster.postgres.history())


def _plan(
    cluster: Cluster, loop: asyncio.AbstractEventLoop, at: float, kind: str, number: int
) -> None:
    node = cluster.nodes[number % 2]
    if kind == "kill":
        loop.call_later(at, node.kill)
        loop.call_later(at + number / 20, node.start)
    elif kind == "stop":
        loop.call_later(at, lambda: node.stop())
        loop.call_later(at + number / 8, node.start)
    elif kind == "lock":
        loop.call_later(at, cluster.postgres.locked.add, number % 4)
        loop.call_later(at + number / 20, cluster.postgres.locked.discard, number % 4)
    elif kind == "freeze":
        loop.call_later(at, node.running.clear)
        loop.call_later(at + number / 10, node.running.set)
    elif kind == "crash":
        loop.call_later(at, _crash, cluster)
        loop.call_later(at + number / 40, setattr, cluster, "reachable", True)
    elif kind == "step":
        loop.call_later(at, setattr, cluster.postgres, "step", timedelta(seconds=number - 20))
    elif kind == "failover":
        loop.call_later(max(0.0, at - number / 20), _replicate, cluster, loop, at)
    else:
        loop.call_later(at, _edit, cluster, kind, number)


def _crash(cluster: Cluster) -> None:
    cluster.reachable = False
    cluster.end_sessions()


def _replicate(cluster: Cluster, loop: asyncio.AbstractEventLoop, at: float) -> None:
    """Keep what an asynchronous standby has by now, for the moment at which it takes over."""
    kept = cluster.postgres.snapshot()

    def take_over() -> None:
        cluster.end_sessions()
        cluster.postgres.state = kept

    loop.call_at(max(loop.time(), at), take_over)


def _edit(cluster: Cluster, kind: str, number: int) -> None:
    if cluster.reachable:
        id = number % len(cluster.postgres.state.schedules)
        row = cluster.postgres.state.schedules[id]
        pauses = (kind == "pause") != row["paused"]
        change: dict[str, Any] = {"cron": CRONS[number // 4 % len(CRONS)]} if kind == "edit" else {}
        if pauses and number % 3 == 0:
            change["resume_at"] = cluster.postgres.now() + timedelta(seconds=number / 10)
        cluster.postgres.edit(id, **change, paused=pauses)
