"""What a schedule means: one strict crontab grammar and one evaluator, used by every service.

Pure: no clock, no database. `parse(text)` gives a `Cron`, whose ticks are absolute instants.
"""

from functools import lru_cache

from quarterjack.cron.evaluator import DST_POLICIES, Cron
from quarterjack.cron.grammar import CronError, parse_fields
from quarterjack.cron.words import describe
from quarterjack.cron.zones import zone

__all__ = ["DST_POLICIES", "Cron", "CronError", "describe", "parse", "zone"]


@lru_cache(maxsize=10_000)
def parse(expression: str) -> Cron:
    """Read five fields, six with leading seconds, or a nickname; CronError says what to write instead."""
    cron = Cron(parse_fields(expression))
    if cron.never_runs():
        raise CronError(f"{expression!r} names a date that does not exist in any year", "day")
    return cron
