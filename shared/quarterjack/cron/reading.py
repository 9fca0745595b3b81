"""From a text to what it means, remembered, because a scheduler reads the same texts all day."""

from functools import lru_cache

from quarterjack.cron.evaluator import Cron
from quarterjack.cron.grammar import CronError, parse_fields, shown
from quarterjack.cron.interval import Interval, is_interval, parse_interval


def read(expression: str, seed: str | None = None) -> Cron | Interval:
    """Read what `parse` reads, and intervals such as `every 90 seconds`."""
    return _interval(expression) if is_interval(expression) else parse(expression, seed)


def parse(expression: str, seed: str | None = None) -> Cron:
    """Read five fields, six with leading seconds, or a nickname; CronError says what to write instead.

    `H` needs a seed, the schedule's name: the same seed gives the same numbers in every process.
    """
    hashed = isinstance(expression, str) and ("H" in expression or "h" in expression)
    return _cron(expression, seed if hashed else None)


@lru_cache(maxsize=10_000)
def _cron(expression: str, seed: str | None) -> Cron:
    cron = Cron(parse_fields(expression, seed))
    if cron.never_runs():
        raise CronError(f"{shown(expression)} names a date that does not exist in any year", "day")
    return cron


@lru_cache(maxsize=1_000)
def _interval(expression: str) -> Interval:
    return parse_interval(expression)
