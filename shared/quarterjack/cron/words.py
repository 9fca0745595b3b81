"""An expression in English."""

from collections.abc import Sequence

from quarterjack.cron.grammar import Fields

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
ORDINALS = ("", "first", "second", "third", "fourth", "fifth")
FEW_TIMES = 4


def describe(fields: Fields) -> str:
    """Say when it runs, such as "Every 2 minutes" or "At 02:30 on Monday"."""
    said = " ".join(part for part in (_times(fields), _days(fields), _months(fields)) if part)
    return said[0].upper() + said[1:]


def _times(fields: Fields) -> str:
    count = len(fields.hours) * len(fields.minutes) * len(fields.seconds)
    if count <= FEW_TIMES:
        every_day = "" if _days(fields) or _months(fields) else " every day"
        return f"at {_and([*_clock(fields)])}{every_day}"
    if fields.has_seconds:
        said = _every(fields.seconds, 60, "second") or f"at second {_and(fields.seconds)}"
        if len(fields.minutes) == 60 and len(fields.hours) == 24:
            return said if said.startswith("every") else f"{said} of every minute"
        return f"{said}, {_minutes(fields)}"
    return _minutes(fields)


def _minutes(fields: Fields) -> str:
    every_hour = len(fields.hours) == 24
    if fields.minutes == (0,):
        return _hours(fields, on_the_hour=True)
    said = _every(fields.minutes, 60, "minute") or _progression(fields.minutes)
    if said is None:
        said = f"at {_and([f':{minute:02d}' for minute in fields.minutes])}"
    if every_hour:
        return said if said.startswith("every") and "from" not in said else f"{said} of every hour"
    return f"{said} {_hours(fields, on_the_hour=False)}"


def _hours(fields: Fields, *, on_the_hour: bool) -> str:
    hours = fields.hours
    if on_the_hour and (said := _every(hours, 24, "hour")):
        return said
    if hours == tuple(range(hours[0], hours[-1] + 1)):
        if on_the_hour and len(hours) > 1:
            return f"every hour from {hours[0]:02d}:00 to {hours[-1]:02d}:00"
        return f"from {hours[0]:02d}:00 to {hours[-1]:02d}:59"
    return f"in the hours from {_and([f'{hour:02d}:00' for hour in hours])}"


def _days(fields: Fields) -> str:
    days: list[str] = []
    if fields.last_day:
        days.append("the last day of the month")
    if fields.days and not (fields.any_day and len(fields.days) == 31):
        days.append(_every_day(fields) or f"day {_and(sorted(fields.days))} of the month")
    weekdays = _weekdays(fields)
    if not days or not weekdays:
        said = weekdays or " and ".join(days)
        return f"on {said}" if said else ""
    either = not fields.any_day and not fields.any_weekday
    return f"on {' and '.join(days)} {'or' if either else 'if it is'} {'on ' if either else ''}{weekdays}"


def _every_day(fields: Fields) -> str | None:
    steps = sorted(fields.days)
    if fields.any_day and len(steps) > 1:
        return f"every {_nth(steps[1] - steps[0])} day from the 1st of the month"
    return None


def _weekdays(fields: Fields) -> str:
    if fields.any_weekday and len(fields.weekdays) == 7:
        return ""
    order = sorted(fields.weekdays, key=lambda day: (day - 1) % 7)
    names = ["Monday to Friday"] if order == [1, 2, 3, 4, 5] else [WEEKDAYS[day] for day in order]
    names += [
        f"the {ORDINALS[number]} {WEEKDAYS[day]} of the month"
        for day, number in sorted(fields.nth_weekdays)
    ]
    return _and(names)


def _months(fields: Fields) -> str:
    if len(fields.months) == 12:
        return ""
    return f"in {_and([MONTHS[month - 1] for month in sorted(fields.months)])}"


def _clock(fields: Fields) -> Sequence[str]:
    return [
        f"{hour:02d}:{minute:02d}" + (f":{second:02d}" if fields.has_seconds else "")
        for hour in fields.hours
        for minute in fields.minutes
        for second in fields.seconds
    ]


def _every(numbers: Sequence[int], size: int, unit: str) -> str | None:
    """Say a step that fills the whole cycle evenly, else None."""
    if len(numbers) == size:
        return f"every {unit}"
    step = size // len(numbers)
    if len(numbers) > 1 and list(numbers) == list(range(0, size, step)):
        return f"every {step} {unit}s"
    return None


def _progression(minutes: Sequence[int]) -> str | None:
    """Say a long row of evenly spaced minutes, else None."""
    if len(minutes) <= FEW_TIMES:
        return None
    step = minutes[1] - minutes[0]
    if list(minutes) != list(range(minutes[0], minutes[-1] + 1, step)):
        return None
    unit = "minute" if step == 1 else f"{step} minutes"
    return f"every {unit} from :{minutes[0]:02d} to :{minutes[-1]:02d}"


def _nth(number: int) -> str:
    ending = (
        {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number not in (11, 12, 13) else "th"
    )
    return f"{number}{ending}"


def _and(items: Sequence[object]) -> str:
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
