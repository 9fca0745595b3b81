"""Values as people read them: times, durations, states, JSON. One place for each form."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from quarterjack.model import JobState

ICONS: dict[str, str] = {
    JobState.AVAILABLE: "circle",
    JobState.SUSPENDED: "pause",
    JobState.SCHEDULED: "clock",
    JobState.EXECUTING: "play",
    JobState.RETRYABLE: "rotate-cw",
    JobState.COMPLETED: "check",
    JobState.DISCARDED: "octagon-x",
    JobState.CANCELLED: "ban",
}
OUTCOMES = {
    "enqueued": "enqueued",
    "skipped_overlap": "skipped: the last run had not ended",
    "skipped_unique": "skipped: an equal job exists",
    "skipped_missed": "missed",
    "skipped_window": "missed, too long ago",
    "coalesced": "coalesced into a later run",
    "frozen": "frozen with all others",
    "skipped_once": "skipped, this one time",
    "blackout": "in a blackout",
    "paused": "paused",
    "superseded": "replaced by an edit",
}


def took(duration: timedelta | None) -> str:
    """Give a length of time in at most two units: 850 ms, 1.2 s, 3 m 20 s, 2 h, 4 d 3 h."""
    if duration is None:
        return "–"
    seconds = abs(duration.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if hours == 0:
        return _two(minutes, "m", int(seconds % 60), "s")
    if days == 0:
        return _two(hours, "h", minutes % 60, "m")
    return _two(days, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large} {unit} {small} {small_unit}" if small else f"{large} {unit}"


def ahead(duration: timedelta) -> str:
    """Give by how much a clock is ahead, or behind: +20 ms, −1.2 s, and 0 ms for less than half of one."""
    if abs(duration) < timedelta(milliseconds=0.5):
        return "0 ms"
    return f"{'−' if duration < timedelta(0) else '+'}{took(duration)}"


def away(at: datetime, now: datetime) -> str:
    """Give the distance from now: "41 s ago", "in 1 m 12 s"."""
    span = at - now
    seconds = int(abs(span).total_seconds())
    if seconds == 0:
        return "now"
    distance = f"{seconds} s" if seconds < 60 else took(timedelta(seconds=seconds))
    return f"in {distance}" if span > timedelta(0) else f"{distance} ago"


def clock(at: datetime, now: datetime, zone: tzinfo = UTC, *, precise: bool = False) -> str:
    """Give the wall time in a zone, always with its name; the date unless it is today's."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    time = f"{local:%H:%M:%S}" + (f".{local.microsecond // 1000:03d}" if precise else "")
    if local.date() == today:
        return f"{time} {local.tzname()}"
    year = f" {local.year}" if local.year != today.year else ""
    return f"{local:%a} {local.day} {local:%b}{year} {time} {local.tzname()}"


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def pretty(value: Any) -> str:
    """Give JSON as text; numbers of any size stay as they are."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def in_line(value: Any) -> str:
    """Give a value of any kind within a sentence."""
    if value in (None, "", [], {}):
        return "none"
    if isinstance(value, list):
        return ", ".join(map(in_line, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def icon(state: str) -> str:
    return ICONS.get(state, "circle")


def outcome(name: str) -> str:
    """Say what became of a tick; a scheduler newer than this page may know more."""
    return OUTCOMES.get(name, name.replace("_", " "))


def short(worker: str) -> str:
    """Give the last part of a dotted name."""
    return worker.rpartition(".")[2] or worker


def count(number: int, cap: int) -> str:
    """Give a number, or "10 000+" where counting stopped."""
    return f"{cap:,}+".replace(",", " ") if number > cap else f"{number:,}".replace(",", " ")


FILTERS: Mapping[str, Any] = {
    "took": took,
    "ahead": ahead,
    "away": away,
    "clock": clock,
    "iso": iso,
    "pretty": pretty,
    "in_line": in_line,
    "icon": icon,
    "outcome": outcome,
    "short": short,
    "count_to": count,
}
