"""What must be true of every history of ticks, from the tables alone and an oracle that counts seconds.

C1  each tick of each version is decided exactly once, by a line or a range, and nothing else is decided
C2  each line that says `enqueued` has one job, and each job its line; nothing is decided before its instant
C3  a run is late only in times of trouble, and none is late once a budget has passed after them
C4  no term goes back, in the order of the commits, and none has two holders
C5  a job takes only steps that there are, and each claim counts as one attempt
C8  once nothing disturbs, no schedule waits
C10 no session stays idle in a transaction, none is left behind, and no error escapes
C12 what was acknowledged and then lost is reported
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

SECOND = timedelta(seconds=1)
STEPS = {"* * * * * *": 1, "*/2 * * * * *": 2, "*/5 * * * * *": 5, "0 * * * * *": 60}
"""The crons of simulated histories, as so many seconds since midnight; whole minutes in every zone."""
LEAST_MOST = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
ATTEMPTS = frozenset({("available", "executing")})
STEPS_OF_JOBS = ATTEMPTS | {
    *((None, state) for state in ("available", "scheduled")),
    *(("scheduled", state) for state in ("available", "cancelled")),
    *(("retryable", state) for state in ("available", "cancelled")),
    *(("available", state) for state in ("cancelled", "discarded")),
    *(
        ("executing", state)
        for state in ("completed", "retryable", "scheduled", "available", "cancelled", "discarded")
    ),
}
ESCAPED = ("Traceback", "was never retrieved", "was never awaited", "Task was destroyed")
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
    holder: UUID | None = None


@dataclass(slots=True)
class Era:
    """A version of a schedule; its ticks are after `begin`, up to `end`, which is None for the present one.

    Versions up to `last_version` that leave the ticks as they are share an era.
    """

    id: int
    version: int
    cron: str
    paused: bool
    begin: datetime
    end: datetime | None = None
    timezone: str = "Etc/UTC"
    last_version: int = 0

    @property
    def versions(self) -> range:
        return range(self.version, max(self.version, self.last_version) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """From when to when something was wrong, for all schedules or for some."""

    begin: datetime
    end: datetime
    schedules: Collection[int] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A job's change of state, which is None before it exists."""

    job_id: int
    before: str | None
    after: str
    attempts_before: int
    attempts_after: int
    max_attempts: int


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
            versions = expected.get((line.schedule_id, line.tick_at), ())
            assert line.version in versions, f"no tick of its version: {line}"
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


def check_lateness(
    ledger: Sequence[Line], troubles: Sequence[Trouble], *, late: timedelta, budget: timedelta
) -> None:
    """C3."""
    for line in ledger:
        if line.outcome != "enqueued" or line.decided_at - line.tick_at <= late:
            continue
        excused = any(
            trouble.begin - late <= line.tick_at
            and line.decided_at <= trouble.end + budget
            and (trouble.schedules is None or line.schedule_id in trouble.schedules)
            for trouble in troubles
        )
        assert excused, f"late without an excuse: {line}"


def check_terms(ledger: Sequence[Line]) -> None:
    """C4."""
    terms = [(line.term, line.holder) for line in ledger if line.term]
    for (before, holder_before), (after, holder_after) in pairwise(terms):
        assert before <= after, f"a term went back: {after} after {before}"
        assert before < after or holder_before == holder_after, f"two led in term {after}"


def check_steps(steps: Sequence[Step]) -> None:
    """C5."""
    for step in steps:
        assert (step.before, step.after) in STEPS_OF_JOBS, f"there is no such step: {step}"
        more = step.attempts_after - step.attempts_before
        claimed = (step.before, step.after) in ATTEMPTS
        given_back = step.before == "executing" and step.after in ("available", "scheduled")
        allowed = {1} if claimed else {0, -1} if given_back else {0}
        assert more in allowed, f"attempts miscounted: {step}"
        assert step.attempts_after <= step.max_attempts, f"too many attempts: {step}"


def check_hygiene(*, idle: Sequence[float], left: Sequence[str], said: Sequence[str]) -> None:
    """C10: seconds of idling in transactions, names of sessions left behind, lines of the logs."""
    assert max(idle, default=0.0) <= 2.0, f"idle in a transaction for {max(idle):.1f} s"
    assert not left, f"sessions left behind: {left}"
    escaped = [line for line in said if any(words in line for words in ESCAPED)]
    assert not escaped, f"an error escaped: {escaped[0]}"


def check_losses(
    acknowledged: Sequence[Tick],
    ledger: Sequence[Line],
    reported: Collection[tuple[Tick, datetime]],
) -> None:
    """C12: what replicas saw acknowledged, again for what was decided again, and what was reported as lost when."""
    standing = {((line.schedule_id, line.tick_at), line.decided_at) for line in ledger}
    kept, told = {tick for tick, _ in standing}, {tick for tick, _ in reported}
    lost = {tick for tick, count in Counter(acknowledged).items() if count > 1 or tick not in kept}
    assert lost <= told, f"lost and not reported: {sorted(lost - told)[:3]}"
    false = standing & set(reported)
    assert not false, f"reported, but not lost: {sorted(false)[:3]}"


def _ticks(history: History) -> dict[Tick, range]:
    """Give the ticks that must be decided by now, and the versions of each."""
    expected: dict[Tick, range] = {}
    for era in history.eras:
        if not era.paused:
            watermark = history.waiting.get(era.id) or era.begin
            end = era.end or watermark - timedelta(microseconds=1)
            expected |= {(era.id, at): era.versions for at in named_seconds(era, end)}
    return expected


def named_seconds(era: Era, end: datetime) -> list[datetime]:
    """Give each whole second after the era's begin, up to `end`, whose wall time the expression names.

    For stretches without a change of clocks, and expressions that restrict days in one way at most.
    """
    zone, fields = ZoneInfo(era.timezone), _fields(era.cron)
    at, found = era.begin.replace(microsecond=0), []
    while at <= end:
        wall = at.astimezone(zone)
        shown = (
            *(wall.second, wall.minute, wall.hour, wall.day, wall.month),
            wall.isoweekday() % 7,
        )
        if at > era.begin and all(n in field for n, field in zip(shown, fields, strict=True)):
            found.append(at)
        at += SECOND
    return found


@lru_cache(maxsize=1_000)
def _fields(cron: str) -> list[frozenset[int]]:
    return [_field(text, *span) for text, span in zip(cron.split(), LEAST_MOST, strict=True)]


def _field(text: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = least if first == "*" else int(first)
        end = most if first == "*" or (step and not last) else int(last or first)
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)
