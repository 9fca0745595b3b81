"""Each check fails on a history that breaks what it looks for: there is none that cannot fail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.checks import Era, History, Line, check, check_jobs, check_terms, check_ticks

NOON, SECOND = datetime(2026, 11, 24, 12, tzinfo=UTC), timedelta(seconds=1)


def line(second: int, *, term: int = 1, outcome: str = "enqueued", version: int = 1) -> Line:
    at = NOON + second * SECOND
    return Line(1, at, None, outcome, version, term, at)


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
    gap = Line(1, NOON + SECOND, NOON + 3 * SECOND, "coalesced", 1, 1, NOON + 4 * SECOND)

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


def test_c4_sees_a_term_that_goes_back() -> None:
    with pytest.raises(AssertionError, match="went back"):
        check_terms([line(1, term=2), line(2, term=1)])


def test_c8_sees_a_schedule_that_waits() -> None:
    with pytest.raises(AssertionError, match="nobody decides"):
        check(replace(GOOD, now=NOON + 60 * SECOND))
