"""What a schedule means: one strict crontab grammar and one evaluator, used by every service.

Pure: no clock, no database. `parse(text)` gives a `Cron`, whose ticks are absolute instants; `read(text)`
takes intervals as well; a `Timing` is all that decides when a schedule runs.
"""

from quarterjack.cron.blackouts import Holidays
from quarterjack.cron.evaluator import DST_POLICIES, Cron
from quarterjack.cron.grammar import CronError
from quarterjack.cron.interval import Interval
from quarterjack.cron.reading import parse, read
from quarterjack.cron.timing import Timed, Timing
from quarterjack.cron.walls import MOMENT
from quarterjack.cron.words import describe
from quarterjack.cron.zones import zone

__all__ = [
    "DST_POLICIES",
    "MOMENT",
    "Cron",
    "CronError",
    "Holidays",
    "Interval",
    "Timed",
    "Timing",
    "describe",
    "parse",
    "read",
    "zone",
]
