"""What a scheduler measures, for `/metrics`: ticks that it decided and, while it leads, what waits in the queues."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from quarterjack.clock import boot
from quarterjack.database import Connection
from quarterjack.metrics import Measure
from quarterjack.queries import queues
from quarterjack.queries.queues import Standing
from quarterjack.queries.ticks import Struck
from quarterjack_scheduler.election import Election

EVERY, STALE = 10.0, 60.0
MOST = 1_000


class Tally:
    """Counts decided ticks by outcome, and adds up by how many seconds they were late."""

    def __init__(self) -> None:
        self.ticks: dict[str, int] = {}
        self.late: dict[str, float] = {}

    def note(self, struck: Iterable[Struck]) -> None:
        for tick in struck:
            late = (tick.decided_at - tick.tick_at) / timedelta(seconds=1)
            self.late[tick.outcome] = self.late.get(tick.outcome, 0.0) + late
            self.ticks[tick.outcome] = self.ticks.get(tick.outcome, 0) + 1


class Backlog:
    """Knows how the first MOST queues by name stand, looked up now and then by the leader."""

    def __init__(self) -> None:
        self._standings: Sequence[Standing] = ()
        self._looked_at = boot()

    async def look(self, db: Connection) -> float:
        """Look; seconds until the next look."""
        self._standings = await queues.standings(db, limit=MOST)
        self._looked_at = boot()
        return EVERY

    @property
    def standings(self) -> Sequence[Standing]:
        """Give what was seen, unless that is STALE."""
        return self._standings if boot() - self._looked_at < STALE else ()


def measure(election: Election, tally: Tally, backlog: Backlog) -> Iterator[Measure]:
    """Give each measure as it is now; any thread may ask."""
    leads = election.term is not None
    yield Measure(
        name="quarterjack_scheduler_leads", about="1 on the replica that leads.", value=leads
    )
    yield from _by_outcome("ticks_total", "Ticks that this replica has decided.", tally.ticks)
    yield from _by_outcome(
        "tick_late_seconds_total",
        "By how many seconds they were decided after their instants.",
        tally.late,
    )
    if leads:
        yield from _by_queue(backlog.standings, election.database_now())


def _by_outcome(name: str, about: str, values: Mapping[str, float]) -> Iterator[Measure]:
    for outcome, value in dict(values).items():
        labels = {"outcome": outcome}
        yield Measure(name=f"quarterjack_scheduler_{name}", about=about, value=value, labels=labels)


def _by_queue(standings: Sequence[Standing], now: datetime) -> Iterator[Measure]:
    shown: tuple[tuple[str, str, Callable[[Standing], float]], ...] = (
        (
            "available_jobs",
            f"Jobs that wait for a worker, counted to {queues.COUNTED + 1}.",
            lambda q: q.available,
        ),
        (
            "oldest_job_seconds",
            "For how long the oldest of them has waited.",
            lambda q: max(0.0, (now - q.oldest_at).total_seconds()) if q.oldest_at else 0.0,
        ),
        ("running_jobs", "Jobs that live workers run.", lambda q: q.running),
        ("limit", "How many they run at once at most.", lambda q: q.limit),
    )
    for name, about, value in shown:
        for queue in standings:
            yield Measure(
                name=f"quarterjack_queue_{name}",
                about=about,
                value=value(queue),
                labels={"queue": queue.queue},
            )
