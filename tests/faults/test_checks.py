"""Each check fails on a history that breaks what it looks for: there is none that cannot fail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.checks import (
    Era,
    History,
    Line,
    Step,
    Trouble,
    check,
    check_hygiene,
    check_jobs,
    check_lateness,
    check_losses,
    check_steps,
    check_terms,
    check_ticks,
    named_seconds,
)

HOLDERS = {1: uuid4(), 2: uuid4()}
NOON, SECOND = datetime(2026, 11, 24, 12, tzinfo=UTC), timedelta(seconds=1)


def line(second: int, *, term: int = 1, outcome: str = "enqueued", version: int = 1) -> Line:
    at = NOON + second * SECOND
    return Line(1, at, None, outcome, version, term, at, HOLDERS[term])


GOOD = History(
    ledger=[line(1), line(2), line(3, outcome="skipped_overlap"), line(4, term=2)],
    jobs=[(1, NOON + n * SECOND) for n in (1, 2, 4)],
    eras=[Era(1, 1, "* * * * * *", False, NOON)],
    waiting={1: NOON + 5 * SECOND},
    now=NOON + 4.5 * SECOND,
)


def test_a_good_history_passes() -> None:
    check(GOOD)


def test_a_range_covers_its_ticks() -> None:
    gap = replace(line(1), until_at=NOON + 3 * SECOND, outcome="coalesced")

    check(replace(GOOD, ledger=[gap, line(4)], jobs=[(1, NOON + 4 * SECOND)]))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (replace(GOOD, ledger=[GOOD.ledger[0], *GOOD.ledger[2:]]), "decided 0 times"),
        (replace(GOOD, ledger=[*GOOD.ledger, line(4, term=2)]), "decided twice"),
        (replace(GOOD, ledger=[*GOOD.ledger, line(9, term=2)]), "no tick of its version"),
        (replace(GOOD, ledger=[line(1, version=2), *GOOD.ledger[1:]]), "no tick of its version"),
        (replace(GOOD, eras=[Era(1, 1, "*/2 * * * * *", False, NOON)]), "no tick of its version"),
    ],
)
def test_c1_sees_what_is_missing_doubled_or_foreign(broken: History, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_ticks(broken)


def test_c2_sees_jobs_without_lines_and_lines_without_jobs() -> None:
    for jobs in (GOOD.jobs[1:], [*GOOD.jobs, GOOD.jobs[0]]):
        with pytest.raises(AssertionError, match="a job without its line"):
            check_jobs(replace(GOOD, jobs=jobs))


def test_c2_sees_what_was_early() -> None:
    early = replace(line(1), decided_at=NOON)

    with pytest.raises(AssertionError, match="before its instant"):
        check_jobs(replace(GOOD, ledger=[early, *GOOD.ledger[1:]]))


def test_c1_takes_any_version_that_left_the_ticks_as_they_were() -> None:
    edited = [line(1), *(line(n, version=2) for n in (2, 3, 4))]
    era = Era(1, 1, "* * * * * *", False, NOON, last_version=2)

    check_ticks(replace(GOOD, ledger=edited, eras=[era]))
    with pytest.raises(AssertionError, match="no tick of its version"):
        check_ticks(replace(GOOD, ledger=[*edited[:3], line(4, version=3)], eras=[era]))


@pytest.mark.parametrize(
    ("cron", "zone", "seconds"),
    [
        ("1-9/4,7 * * * * *", "Etc/UTC", [1, 5, 7, 9]),
        ("*/6 45 17 * * *", "Asia/Kathmandu", [6]),
        ("3 0 12 24 11 2", "Etc/UTC", [3]),
        ("* * * * * 3", "Etc/UTC", []),
        ("4/5 * * * * *", "Etc/UTC", [4, 9]),
    ],
)
def test_the_oracle_names_seconds(cron: str, zone: str, seconds: list[int]) -> None:
    era = Era(1, 1, cron, False, NOON, timezone=zone)

    found = named_seconds(era, NOON + 10 * SECOND)

    assert found == [NOON + n * SECOND for n in seconds]


LATE = {"late": 2 * SECOND, "budget": 5 * SECOND}


@pytest.mark.parametrize(
    ("decided", "trouble"),
    [
        (5, None),
        (5, Trouble(begin=NOON + 20 * SECOND, end=NOON + 30 * SECOND)),
        (9, Trouble(begin=NOON, end=NOON + 3 * SECOND)),
        (5, Trouble(begin=NOON, end=NOON + 3 * SECOND, schedules={2})),
    ],
)
def test_c3_sees_what_is_late_without_an_excuse(decided: int, trouble: Trouble | None) -> None:
    late = replace(line(1), decided_at=NOON + decided * SECOND)

    with pytest.raises(AssertionError, match="late without an excuse"):
        check_lateness([late], [trouble] if trouble else [], **LATE)


def test_c3_lets_trouble_excuse() -> None:
    late = replace(line(1), decided_at=NOON + 7 * SECOND)
    trouble = Trouble(begin=NOON, end=NOON + 3 * SECOND, schedules={1})

    check_lateness([late], [trouble], **LATE)
    check_lateness([line(1), replace(late, outcome="coalesced")], [], **LATE)


def test_c4_sees_two_holders_of_a_term() -> None:
    with pytest.raises(AssertionError, match="two led"):
        check_terms([replace(line(1), holder=uuid4()), replace(line(2), holder=uuid4())])


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (("completed", "available", 1, 1), "no such step"),
        ((None, "executing", 0, 1), "no such step"),
        (("available", "executing", 1, 1), "miscounted"),
        (("executing", "completed", 1, 2), "miscounted"),
        (("executing", "retryable", 2, 1), "miscounted"),
        (("available", "executing", 3, 4), "too many"),
    ],
)
def test_c5_sees_steps_that_there_are_not(
    step: tuple[str | None, str, int, int], said: str
) -> None:
    before, after, had, has = step
    with pytest.raises(AssertionError, match=said):
        check_steps([Step(1, before, after, had, has, max_attempts=3)])


def test_c5_takes_a_life_of_a_job() -> None:
    life = [(None, "available", 0, 0), ("available", "executing", 0, 1)]
    life += [("executing", "available", 1, 0), ("available", "executing", 0, 1)]
    life += [("executing", "retryable", 1, 1), ("retryable", "available", 1, 1)]

    check_steps([Step(1, *step, max_attempts=3) for step in life])


@pytest.mark.parametrize(
    ("idle", "left", "said", "words"),
    [
        ([0.1, 2.5], [], [], "idle in a transaction"),
        ([], ["quarterjack-scheduler a"], [], "left behind"),
        ([], [], ["12:00 ERROR   the election failed", "Traceback (most"], "an error escaped"),
        ([], [], ["Task exception was never retrieved"], "an error escaped"),
    ],
)
def test_c10_sees_what_is_left(
    idle: list[float], left: list[str], said: list[str], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        check_hygiene(idle=idle, left=left, said=said)


def test_c12_sees_silent_losses_and_false_reports() -> None:
    ledger, ticks = [line(1), line(2)], [(1, NOON + n * SECOND) for n in (1, 2, 3)]
    first = (ticks[0], NOON)

    check_losses([*ticks[:2], ticks[0]], ledger, [first])
    for acknowledged in ([*ticks[:2], ticks[1]], ticks):
        with pytest.raises(AssertionError, match="not reported"):
            check_losses(acknowledged, ledger, [first])
    with pytest.raises(AssertionError, match="not lost"):
        check_losses(ticks[:2], ledger, [(ticks[0], ledger[0].decided_at)])


def test_c4_sees_a_term_that_goes_back() -> None:
    with pytest.raises(AssertionError, match="went back"):
        check_terms([line(1, term=2), line(2, term=1)])


def test_c8_sees_a_schedule_that_waits() -> None:
    with pytest.raises(AssertionError, match="nobody decides"):
        check(replace(GOOD, now=NOON + 60 * SECOND))
