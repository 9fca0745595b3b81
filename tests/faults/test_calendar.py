"""Leaders that come and go while clocks change, against the brute force (F41); the evaluator alone: tests/cron."""

import random
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from quarterjack import cron
from quarterjack.queries.ticks import Due
from quarterjack_scheduler.decide import decide
from tests.cron.oracle import ZONES, Stretch, stretch_around_change, wanted
from tests.scheduler.test_decide import due

EXPRESSIONS = 150
OUTAGES = (0.4, 1.0, 29.0, 31.0, 600.0, 4_000.0)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize("zone", ZONES)
def test_f41_ticks_around_a_change_of_clocks_are_decided_once(zone: str, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(EXPRESSIONS):
        number, dst = dice.randrange(10**6), dice.choice(cron.DST_POLICIES)
        it, around = wanted(number), stretch_around_change(zone, number)
        first = _first(it.text, zone, dst, around)
        if first is None or first > around.end:
            continue
        row = due(
            cron=it.text,
            timezone=zone,
            dst=dst,
            next_run_at=first,
            catchup=dice.choice(("all", "last", "skip")),
            catchup_limit=100_000,
        )

        decided = _lead(row, around, dice)

        assert decided == around.ticks(it)[dst], f"--seed; {it.text} {zone} {dst} {around.start}"


def _first(text: str, zone: str, dst: str, around: Stretch) -> datetime | None:
    try:
        return cron.read(text, "s").next_after(around.start - MOMENT, ZoneInfo(zone), dst)
    except cron.CronError:
        return None


def _lead(row: Due, around: Stretch, dice: random.Random) -> list[datetime]:
    """Decide what is due, again and again, each time after an outage; give what got a line, in a range too."""
    decided: list[datetime] = []
    evaluator, zone = cron.read(row.cron, row.name), ZoneInfo(row.timezone)
    now = row.next_run_at
    while row.next_run_at <= around.end:
        now = max(now, row.next_run_at) + timedelta(seconds=dice.choice(OUTAGES))
        verdict = decide(row, min(now, around.end))
        for line in verdict.decisions:
            until = line.until_at or line.tick_at
            decided += evaluator.ticks(line.tick_at, until, zone, row.dst)
        if verdict.next_run_at is None:
            break
        row = replace(row, next_run_at=verdict.next_run_at)
    return decided
