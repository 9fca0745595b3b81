"""How long ended jobs are kept, from the environment."""

import os
import re
from dataclasses import dataclass
from datetime import timedelta

from quarterjack.errors import SettingInvalid

UNITS = {"m": "minutes", "h": "hours", "d": "days"}
FORM = re.compile(r"(\d{1,5})([mhd])(?:\s+(\d{1,10}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The jobs of one state that stay: younger than `age`, and of those the newest `count`."""

    age: timedelta
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept of each state in which jobs end."""

    completed: Keep
    cancelled: Keep
    discarded: Keep


def from_environment() -> Retention:
    """Read QUARTERJACK_KEEP_COMPLETED, _CANCELLED and _DISCARDED: an age and a count, as `7d 1000000`."""
    return Retention(
        completed=_keep("COMPLETED", "7d 1000000"),
        cancelled=_keep("CANCELLED", "30d 1000000"),
        discarded=_keep("DISCARDED", "90d 1000000"),
    )


def _keep(state: str, default: str) -> Keep:
    name = f"QUARTERJACK_KEEP_{state}"
    text = os.environ.get(name, default).strip()
    match = FORM.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise SettingInvalid(
            f"{name} is {text[:40]!r}: give an age in m, h or d and a count, such as {default!r}"
        )
    age = timedelta(**{UNITS[match[2]]: int(match[1])})
    return Keep(age=age, count=int(match[3] or 1_000_000))
