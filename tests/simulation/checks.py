"""What must be true of every history, from the tables alone and an oracle that counts seconds."""

from collections import Counter
from datetime import datetime, timedelta

from tests.simulation.postgres import Line, Postgres

SECOND = timedelta(seconds=1)
STEPS = {"* * * * * *": 1, "*/2 * * * * *": 2, "*/5 * * * * *": 5, "0 * * * * *": 60}
BEHIND = timedelta(seconds=2)
Tick = tuple[int, datetime]


def check(postgres: Postgres) -> None:
    """Raise AssertionError for a history that breaks the guarantee; after a time without trouble."""
    state = postgres.state
    runs = [line for line in state.ledger if line.outcome == "enqueued"]
    expected, allowed = _ticks(postgres)
    _check_lines(state.ledger, expected, allowed)
    assert Counter(state.jobs) == Counter((run.schedule_id, run.tick_at) for run in runs), (
        "a job without its line, or a line without its job"
    )
    early = [run for run in runs if run.decided_at < run.tick_at]
    assert not early, f"decided before its instant: {early[0]}"
    terms = [line.term for line in state.ledger if line.term is not None]
    assert terms == sorted(terms), "a term went back"
    for row in state.schedules.values():
        assert row["broken_reason"] is None, row["broken_reason"]
        assert row["paused"] or row["next_run_at"] > postgres.now() - BEHIND, (
            f"nobody decides schedule {row['id']}"
        )


def _check_lines(ledger: list[Line], expected: set[Tick], allowed: dict[Tick, int]) -> None:
    singles = Counter((line.schedule_id, line.tick_at) for line in ledger if not line.until_at)
    ranges = [line for line in ledger if line.until_at is not None]
    doubled = [tick for tick, count in singles.items() if count > 1]
    assert not doubled, f"decided twice: {doubled[0]}"
    for line in ledger:
        if line.until_at is None:
            tick = (line.schedule_id, line.tick_at)
            assert allowed.get(tick) == line.version, f"no tick of its version: {line}"
    for id, at in expected:
        covering = singles[id, at] + sum(
            1
            for line in ranges
            if line.schedule_id == id and line.tick_at <= at <= (line.until_at or at)
        )
        assert covering == 1, f"decided {covering} times: schedule {id} at {at}"


def _ticks(postgres: Postgres) -> tuple[set[Tick], dict[Tick, int]]:
    """Give the ticks that must be decided by now, and the version of each."""
    expected: set[Tick] = set()
    allowed: dict[Tick, int] = {}
    for era in postgres.state.eras:
        row = postgres.state.schedules[era["id"]]
        if era["paused"]:
            continue
        end = era["end"] or (row["next_run_at"] or era["begin"]) - timedelta(microseconds=1)
        for at in _seconds(era["begin"], end, STEPS[era["cron"]]):
            expected.add((era["id"], at))
            allowed[era["id"], at] = era["version"]
    return expected, allowed


def _seconds(begin: datetime, end: datetime, step: int) -> list[datetime]:
    """Give each whole second after `begin`, up to `end`, that is a multiple of the step since midnight."""
    at, found = begin.replace(microsecond=0), []
    while at <= end:
        if at > begin and int(at.timestamp()) % step == 0:
            found.append(at)
        at += SECOND
    return found
