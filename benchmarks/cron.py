"""What a step of the cron evaluator costs, beside croniter and cronsim: `./dev bench cron [rounds]`.

Each round times all three on the same expressions and zones, in turn, so that a busy machine slows them
alike; the figures are medians of the rounds, in CPU time of this thread.
"""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from statistics import geometric_mean, median
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from quarterjack.cron.evaluator import Cron
from quarterjack.cron.grammar import parse_fields

EXPRESSIONS = (
    "* * * * *",
    "*/2 * * * *",
    "5,35 * * * *",
    "*/15 9-17 * * *",
    "30 2 * * *",
    "0 9 * * 1-5",
    "0 0 1 * *",
    "0 0 13 * 5",
    "0 9 * * 1#1",
    "0 0 29 2 *",
)
ZONES = (UTC, ZoneInfo("Europe/Prague"))
START = datetime(2026, 3, 28, 22, 7, tzinfo=UTC)  # clocks change within the first steps
STEPS = 50
LIMIT = 1.5
Work = Callable[[], object]


def steps(text: str, zone: tzinfo) -> tuple[Work, Work, Work]:
    """Give one step after another, for each of the three."""
    local, cron = START.astimezone(zone), Cron(parse_fields(text))

    def ours() -> Iterator[datetime | None]:
        tick: datetime | None = START
        while tick is not None:
            tick = cron.next_after(tick, zone)
            yield tick

    theirs = croniter(text, local, ret_type=datetime)
    return ours().__next__, theirs.get_next, CronSim(text, local).__next__


def steps_back(text: str, zone: tzinfo) -> tuple[Work, Work, Work]:
    """Give one step back after another."""
    local, cron = START.astimezone(zone), Cron(parse_fields(text))

    def ours() -> Iterator[datetime | None]:
        tick: datetime | None = START
        while tick is not None:
            tick = cron.prev_before(tick, zone)
            yield tick

    theirs = croniter(text, local, ret_type=datetime)
    return ours().__next__, theirs.get_prev, CronSim(text, local, reverse=True).__next__


def readings(text: str, zone: tzinfo) -> tuple[Work, Work, Work]:
    """Read the text and take the first step."""
    local = START.astimezone(zone)

    def ours() -> object:
        cron = Cron(parse_fields(text))
        return None if cron.never_runs() else cron.next_after(START, zone)

    return (
        ours,
        lambda: croniter(text, local, ret_type=datetime).get_next(),
        lambda: next(CronSim(text, local)),
    )


def main(rounds: int) -> int:
    """Print a table for each kind of work; 1 if a step costs more than it may."""
    worst = 0.0
    for title, make in (
        ("next_after", steps),
        ("parse + first", readings),
        ("prev_before", steps_back),
    ):
        print(
            f"\n{title:<18}{'zone':<15}{'ours':>9}{'croniter':>10}{'cronsim':>9}    ours/croniter  ours/cronsim"
        )
        for zone in ZONES:
            by_croniter, by_cronsim = [], []
            for text in EXPRESSIONS:
                ours, theirs, other = measure(make, text, zone, rounds)
                by_croniter.append(ours / theirs)
                by_cronsim.append(ours / other)
                print(
                    f"{text:<18}{zone!s:<15}{ours:>6.1f} us{theirs:>7.1f} us{other:>6.1f} us"
                    f"{ours / theirs:>17.2f}{ours / other:>14.2f}"
                )
            print(
                f"{'all':<58}{geometric_mean(by_croniter):>18.2f}{geometric_mean(by_cronsim):>14.2f}"
            )
            worst = max(worst, *by_croniter) if make is steps else worst
    print(f"\nthe dearest step costs {worst:.2f} of croniter's; it may cost {LIMIT}")
    return int(worst > LIMIT)


def measure(
    make: Callable[[str, tzinfo], tuple[Work, Work, Work]], text: str, zone: tzinfo, rounds: int
) -> list[float]:
    """Give the median microseconds of each of the three."""
    found: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        for place, work in enumerate(make(text, zone)):
            began = time.thread_time()
            for _ in range(STEPS):
                work()
            found[place].append((time.thread_time() - began) / STEPS * 1e6)
    return [median(each) for each in found]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
