"""From a text to what it means, remembered, because a scheduler reads the same texts all day."""

from functools import lru_cache

from quarterjack.cron.evaluator import Cron
from quarterjack.cron.grammar import CronError, checked_text, parse_fields, shown
from quarterjack.cron.interval import Interval, is_interval, parse_interval


def read(expression: str, seed: str | None = None) -> Cron | Interval:
    """Read what `parse` reads, and intervals such as `every 90 seconds`."""
    text = checked_text(expression)
    return _interval(text) if is_interval(text) else parse(text, seed)


def parse(expression: str, seed: str | None = None) -> Cron:
    """Read five fields, six with leading seconds, or a nickname; CronError says what to write instead.

    `H` needs a seed, the schedule's name: the same seed gives the same numbers in every process.
    """
    text = checked_text(expression)
    return _cron(text, seed if "h" in text.lower() else None)


@lru_cache(maxsize=10_000)
def _cron(text: str, seed: str | None) -> Cron:
    cron = Cron(parse_fields(text, seed))
    if cron.never_runs():
        raise CronError(f"{shown(text)} names a date that does not exist in any year", "day")
    return cron


@lru_cache(maxsize=1_000)
def _interval(text: str) -> Interval:
    return parse_interval(text)
