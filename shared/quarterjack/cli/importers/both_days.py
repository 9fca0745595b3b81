"""Day of month AND weekday, as Oban and Celery read an expression; crontab(5) means OR.

Where one of the two begins with `*` both mean the same. The first, second, third or fourth weekday of a month
can be said with `#`; anything else cannot.
"""

from quarterjack.cron.grammar import WEEKDAYS

WEEKS = {frozenset(range(7 * week + 1, 7 * week + 8)): week + 1 for week in range(4)}


class NotSayable(ValueError):
    """Both days are restricted, and crontab(5) has no expression for that."""


def either_day(day: str, weekday: str) -> tuple[str, str]:
    """Give day of month and weekday that mean in a crontab what these mean together."""
    if day.startswith("*") or weekday.startswith("*"):
        return day, weekday
    week, one = WEEKS.get(_days(day)), _one(weekday)
    if week is None or one is None:
        raise NotSayable(_said(day, weekday))
    return "*", f"{one}#{week}"


def _said(day: str, weekday: str) -> str:
    return (
        f"runs when the day of month is {day} and the weekday is {weekday}, both; a crontab runs on either: "
        "make it a daily schedule whose job looks at the date"
    )


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not (low.isascii() and low.isdecimal() and len(low) < 3):
            return frozenset()
        if high and not (high.isascii() and high.isdecimal() and len(high) < 3):
            return frozenset()
        days |= set(range(int(low), int(high or low) + 1))
    return frozenset(days)


def _one(text: str) -> str | None:
    name = text.lower()[:3]
    if text.isascii() and text.isdecimal() and len(text) == 1 and int(text) <= 7:
        return str(int(text) % 7)
    return str(WEEKDAYS.index(name)) if text.isalpha() and name in WEEKDAYS else None
