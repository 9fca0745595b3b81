"""What must be true of every history of ticks, from the tables alone and an oracle that counts seconds.

C1 each tick of each version is decided exactly once, by a line or a range, and nothing else is decided
C2 each line that says `enqueued` has one job, and each job its line; nothing is decided before its instant
C4 no term goes back, in the order of the commits
C8 once nothing disturbs, no schedule waits
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SECOND = timedelta(seconds=1)
STEPS = {"* * * * * *": 1, "*/2 * * * * *": 2, "*/5 * * * * *": 5, "0 * * * * *": 60}
"""The crons of histories, as so many seconds since midnight; whole minutes in every zone."""
BEHIND = timedelta(seconds=2)
Tick = tuple[int, datetime]


@dataclass(slots=True)
class Line:
    """A line of the ledger."""

    schedule_id: int
    tick_at: datetime
    until_at: datetime | None
    outcome: str
    version: int
    term: int | None
    decided_at: datetime


@dataclass(slots=True)
class Era:
    """A version of a schedule; its ticks are after `begin`, up to `end`, which is None for the present one."""

    id: int
    version: int
    cron: str
    paused: bool
    begin: datetime
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The tables as they are in the end; `ledger` in the order of the commits, `waiting` the watermarks."""

    ledger: Sequence[Line]
    jobs: Sequence[Tick]
    eras: Sequence[Era]
    waiting: Mapping[int, datetime | None]
    now: datetime


def check(history: History) -> None:
    """Raise AssertionError for a history that breaks the guarantee; after a time without trouble."""
    check_ticks(history)
    check_jobs(history)
    check_terms(history.ledger)
    for era in history.eras:
        if era.end is None and not era.paused:
            watermark = history.waiting[era.id]
            assert watermark, f"schedule {era.id} is not planned"
            assert watermark > history.now - BEHIND, (
                f"nobody decides schedule {era.id}: {watermark} at {history.now}"
            )


def check_ticks(history: History) -> None:
    """C1."""
    expected = _ticks(history)
    singles = Counter(
        (line.schedule_id, line.tick_at) for line in history.ledger if not line.until_at
    )
    ranges = [line for line in history.ledger if line.until_at is not None]
    doubled = [tick for tick, count in singles.items() if count > 1]
    assert not doubled, f"decided twice: {doubled[0]}"
    for line in history.ledger:
        if line.until_at is None:
            version = expected.get((line.schedule_id, line.tick_at))
            assert version == line.version, f"no tick of its version: {line}"
    for id, at in expected:
        covering = singles[id, at] + sum(
            1
            for line in ranges
            if line.schedule_id == id and line.tick_at <= at <= (line.until_at or at)
        )
        assert covering == 1, f"decided {covering} times: schedule {id} at {at}"


def check_jobs(history: History) -> None:
    """C2."""
    runs = [line for line in history.ledger if line.outcome == "enqueued"]
    lines = Counter((run.schedule_id, run.tick_at) for run in runs)
    wrong = Counter(history.jobs) - lines or lines - Counter(history.jobs)
    assert not wrong, f"a job without its line, or a line without its job: {wrong}"
    early = [run for run in runs if run.decided_at < run.tick_at]
    assert not early, f"decided before its instant: {early[0]}"


def check_terms(ledger: Sequence[Line]) -> None:
    """C4."""
    terms = [line.term for line in ledger if line.term is not None]
    assert terms == sorted(terms), "a term went back"


def _ticks(history: History) -> dict[Tick, int]:
    """Give the ticks that must be decided by now, and the version of each."""
    expected: dict[Tick, int] = {}
    for era in history.eras:
        if not era.paused:
            watermark = history.waiting.get(era.id) or era.begin
            end = era.end or watermark - timedelta(microseconds=1)
            expected |= {
                (era.id, at): era.version for at in _seconds(era.begin, end, STEPS[era.cron])
            }
    return expected


def _seconds(begin: datetime, end: datetime, step: int) -> list[datetime]:
    """Give each whole second after `begin`, up to `end`, that is a multiple of the step since midnight."""
    at, found = begin.replace(microsecond=0), []
    while at <= end:
        if at > begin and int(at.timestamp()) % step == 0:
            found.append(at)
        at += SECOND
    return found
