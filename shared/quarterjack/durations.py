"""Lengths of time as people write them: `90s`, `1h 30m`, `7d`."""

import re
from datetime import timedelta

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
SPELLINGS = {
    spelling: UNITS[unit]
    for unit, others in (
        ("d", "day days"),
        ("h", "hr hrs hour hours"),
        ("m", "min mins minute minutes"),
        ("s", "sec secs second seconds"),
    )
    for spelling in (unit, *others.split())
} | {"w": 604_800, "week": 604_800, "weeks": 604_800, "ms": 0.001}
PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([a-z]+)\s*")
WHOLE = re.compile(rf"(?:{PART.pattern})+")
ADVICE = "write a number and a unit, such as 90s, 30m, 1h 30m or 7d"


def read(text: str) -> timedelta:
    """Read a length of time; ValueError says what to write instead."""
    plain = text.strip().lower()
    if plain == "0":
        return timedelta(0)
    if WHOLE.fullmatch(plain) is None:
        raise ValueError(f"{text[:40]!r} is no length of time: {ADVICE}")
    seconds = 0.0
    for number, unit in PART.findall(plain):
        if unit not in SPELLINGS:
            raise ValueError(f"{unit[:20]!r} is no unit: {ADVICE}")
        seconds += float(number) * SPELLINGS[unit]
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is longer than any calendar: {ADVICE}") from None


def write(duration: timedelta) -> str:
    """Write a length of time so that `read` gives it back: 1h 30m, 0s."""
    parts, left = [], duration
    for unit, size in UNITS.items():
        count, left = divmod(left, timedelta(seconds=size))
        if count and (unit != "s" or not left):
            parts.append(f"{count}{unit}")
        elif unit == "s" and left:
            parts.append(f"{count + left.total_seconds():.6f}".rstrip("0") + "s")
    return " ".join(parts) or "0s"
