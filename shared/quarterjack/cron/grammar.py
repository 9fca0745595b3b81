"""The grammar of crontab(5), strict: whatever other programs read differently is refused.

Five fields (minute, hour, day of month, month, day of week), or six with seconds in front. A field is a
list of `*`, `n`, `a-b` with a < b, and `/step` after `*` or a range; months and days of the week have
three-letter names; `L` is the last day of the month, `d#n` the nth weekday d of the month, 7 is Sunday.
`H` is a number made from a seed, the schedule's name, so that many schedules spread themselves: `H` is
one value, `H(a-b)` one of a range, and `/step` after either makes it the start of the steps.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

LONGEST = 255
LONGEST_SHOWN = 40
STARS = ("*", "h/")
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class CronError(ValueError):
    """An expression or zone that cannot be used; `field` names the part that is wrong."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The parsed expression: sorted numbers per field, Sunday is 0."""

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    any_hour: bool
    any_day: bool
    any_weekday: bool

    @property
    def has_seconds(self) -> bool:
        return self.seconds != (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0

    @property
    def hashed_high(self) -> int:
        """Keep `H` to days that every month has, and to one Sunday."""
        return {"day": 28, "weekday": 6}.get(self.name, self.high)


Numbers = Callable[[str, _Kind], frozenset[int]]

SECOND = _Kind(name="second", low=0, high=59)
MINUTE = _Kind(name="minute", low=0, high=59)
HOUR = _Kind(name="hour", low=0, high=23)
DAY = _Kind(name="day", low=1, high=31)
MONTH = _Kind(name="month", low=1, high=12, names=MONTHS, first_name=1)
WEEKDAY = _Kind(name="weekday", low=0, high=7, names=WEEKDAYS)

BLANKS = " \t\r\n"
ODD = re.compile(r"[^ -~\t]")
ITEM = re.compile(r"(\*|[0-9a-z]+)(?:-([0-9a-z]+))?(?:/([0-9]+))?")
HASHED = re.compile(r"h(?:\(([0-9]+)-([0-9]+)\))?(?:/([0-9]+))?")
NTH = re.compile(r"([0-7]|[a-z]{3})#([0-9]+)")


def parse_fields(text: str, seed: str | None = None) -> Fields:
    """Read a checked text; CronError names the field and says what to write."""
    parts = _expanded(text.lower()).split()
    if len(parts) not in (5, 6):
        raise CronError(
            f"{len(parts)} fields: give five (minute hour day month weekday), "
            "or six with seconds in front",
            "cron",
        )
    second = parts.pop(0) if len(parts) == 6 else "0"
    minute, hour, day, month, weekday = parts
    numbers = partial(_numbers, seed=seed)
    days, last_day = _days(day, numbers)
    weekdays, nth = _weekdays(weekday, numbers)
    return Fields(
        text=" ".join(text.split()),
        seconds=tuple(sorted(numbers(second, SECOND))),
        minutes=tuple(sorted(numbers(minute, MINUTE))),
        hours=tuple(sorted(numbers(hour, HOUR))),
        days=days,
        last_day=last_day,
        months=numbers(month, MONTH),
        weekdays=weekdays,
        nth_weekdays=nth,
        any_hour=hour.startswith(STARS),
        any_day=day.startswith(STARS),
        any_weekday=weekday.startswith(STARS),
    )


def checked_text(expression: str) -> str:
    """Give an expression without surrounding blanks; CronError unless it is short printable ASCII."""
    if not isinstance(expression, str):
        raise CronError("the schedule is no text: give five fields, such as */2 * * * *", "cron")
    if len(expression) > LONGEST:
        raise CronError(f"the schedule has {len(expression)} characters: at most {LONGEST}", "cron")
    text = expression.strip(BLANKS)
    if not text:
        raise CronError("the schedule is empty: give five fields, such as */2 * * * *", "cron")
    odd = ODD.search(text)
    if odd is not None:
        raise CronError(
            f"the schedule holds {odd[0]!a}: write it in printable ASCII on one line", "cron"
        )
    return text


def shown(text: str) -> str:
    """Quote a text in a message, cut to a length that can be read."""
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def _expanded(text: str) -> str:
    if not text.startswith("@"):
        return text
    if text not in NICKNAMES:
        raise CronError(
            f"{shown(text)} is no nickname: choose from {', '.join(NICKNAMES)}, or give five fields",
            "cron",
        )
    return NICKNAMES[text]


def _days(text: str, numbers: Numbers) -> tuple[frozenset[int], bool]:
    items = text.split(",")
    plain = [item for item in items if item != "l"]
    chosen = numbers(",".join(plain), DAY) if plain else frozenset()
    return chosen, len(plain) < len(items)


def _weekdays(text: str, numbers: Numbers) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    plain, nth = [], set()
    for item in text.split(","):
        if "#" not in item:
            plain.append(item)
            continue
        match = NTH.fullmatch(item)
        if match is None or not 1 <= int(match[2]) <= 5:
            raise CronError(
                f"{shown(item)} in the weekday field: write day#n with n from 1 to 5, such as mon#1",
                WEEKDAY.name,
            )
        nth.add((_number(match[1], WEEKDAY) % 7, int(match[2])))
    chosen = numbers(",".join(plain), WEEKDAY) if plain else frozenset()
    return frozenset(number % 7 for number in chosen), frozenset(nth)


def _numbers(text: str, kind: _Kind, *, seed: str | None) -> frozenset[int]:
    chosen: set[int] = set()
    for item in text.split(","):
        chosen.update(_hashed(item, kind, seed) if item.startswith("h") else _item(item, kind))
    return frozenset(chosen)


def _hashed(item: str, kind: _Kind, seed: str | None) -> range:
    match = HASHED.fullmatch(item)
    if match is None:
        raise CronError(
            f"{shown(item)} in the {kind.name} field: write H, H/15 or H(0-29)", kind.name
        )
    if seed is None:
        raise CronError(
            f"{shown(item.upper())} in the {kind.name} field is made from the schedule's name: "
            f"give the schedule a name, or write a number",
            kind.name,
        )
    low, high = kind.low, kind.hashed_high
    if match[1] is not None:
        low, high = _number(match[1], kind), _number(match[2], kind)
        if low >= high:
            raise CronError(
                f"{shown(item.upper())} in the {kind.name} field: a range goes up", kind.name
            )
    size = high - low + 1
    digest = sha256(f"{kind.name} {seed}".encode(errors="surrogatepass")).digest()
    number = int.from_bytes(digest[:8], "big")
    if match[3] is None:
        return range(low + number % size, low + number % size + 1)
    step = _step(match[3], size, item.upper(), kind)
    return range(low + number % step, high + 1, step)


def _item(item: str, kind: _Kind) -> range:
    match = ITEM.fullmatch(item)
    if match is None:
        raise CronError(_unreadable(item, kind), kind.name)
    start, end, step = match.groups()
    high = 6 if kind is WEEKDAY and start == "*" else kind.high
    if start == "*":
        if end is not None:
            raise CronError(_unreadable(item, kind), kind.name)
        first, last = kind.low, high
    else:
        first = _number(start, kind)
        last = first if end is None else _number(end, kind)
        if end is not None and first >= last:
            raise CronError(
                f"{shown(item)} in the {kind.name} field: a range goes up; "
                f"write {_rising(start, end, first, last, kind)}",
                kind.name,
            )
        if end is None and step is not None:
            raise CronError(
                f"{shown(item)} in the {kind.name} field: a step needs a range; "
                f"write {start}-{kind.high}/{step}",
                kind.name,
            )
    width = 1 if step is None else _step(step, high - kind.low + 1, item, kind)
    return range(first, last + 1, width)


def _step(digits: str, most: int, item: str, kind: _Kind) -> int:
    step = _bounded(digits)
    if not 1 <= step <= most:
        raise CronError(
            f"{shown(item)} in the {kind.name} field: a step is from 1 to {most}", kind.name
        )
    return step


def _rising(start: str, end: str, first: int, last: int, kind: _Kind) -> str:
    if first == last:
        return start
    if kind is WEEKDAY and last == 0:
        return f"{start}-7"
    return f"{start}-{kind.high},{kind.low}-{end}"


def _number(text: str, kind: _Kind) -> int:
    if text in kind.names:
        return kind.names.index(text) + kind.first_name
    if text.isdigit() and kind.low <= _bounded(text) <= kind.high:
        return int(text)
    raise CronError(_unreadable(text, kind), kind.name)


def _bounded(digits: str) -> int:
    """Keep a long row of digits from being converted at all."""
    return int(digits) if len(digits) <= 4 else 10_000


def _unreadable(item: str, kind: _Kind) -> str:
    names = f" or {kind.names[0]}-{kind.names[-1]}" if kind.names else ""
    return (
        f"{shown(item)} in the {kind.name} field: "
        f"give numbers from {kind.low} to {kind.high}{names}, ranges a-b, lists and /steps"
    )
