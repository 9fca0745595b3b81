"""Time zones by their IANA name."""

from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from quarterjack.cron.grammar import CronError, shown


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Give the zone; CronError for a name that the tz database does not hold."""
    if not isinstance(name, str) or name not in zone_names():
        raise CronError(
            f"{shown(str(name))} is no time zone: give an IANA name such as Europe/Berlin or Etc/UTC",
            "timezone",
        )
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Give every known name."""
    return frozenset(available_timezones())
