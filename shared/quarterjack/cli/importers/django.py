"""`dumpdata django_celery_beat`: periodic tasks with their crontabs and intervals.

Celery reads day of month AND weekday. Beat starts a task that is overdue once, and keeps no runs apart.
"""

import json
from collections.abc import Mapping
from typing import Any

from quarterjack.cli.files import shown
from quarterjack.cli.importers.both_days import NotSayable, either_day
from quarterjack.cli.importers.outcome import Imported, Options
from quarterjack.cli.problems import FileInvalid, Problem, quoted
from quarterjack.cron.grammar import WEEKDAYS

PREFIX = "django_celery_beat."
KINDS = ("crontab", "interval", "solar", "clocked")
CRON_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
PERIODS = ("days", "hours", "minutes", "seconds", "microseconds")
STATE = {"last_run_at", "total_run_count", "date_changed", "name", "task", "one_off"}
CARRIED = {"args", "kwargs", "queue", "start_time", "expires", "enabled", "description", *KINDS}
BUILT_IN = "celery.backend_cleanup"

Row = Mapping[str, Any]


def read(path: str, text: str, options: Options) -> Imported:
    """Read the periodic tasks of a fixture."""
    rows = _rows(path, text)
    tables = {kind: _table(rows, f"{kind}schedule") for kind in KINDS}
    found = Imported()
    for row in rows:
        if row["model"] != f"{PREFIX}periodictask":
            continue
        fields = row["fields"]
        where = f"task {quoted(fields.get('name', row.get('pk')))}"
        try:
            _take(fields, tables, found, options, where)
        except _LeftOut as error:
            found.leave(where, str(error))
    return found


class _LeftOut(Exception):
    """A task that our schedules cannot say; the message tells why."""


def _rows(path: str, text: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileInvalid(
            shown(path), [Problem(line=error.lineno, text=f"not JSON: {error.msg}")]
        ) from error
    except (RecursionError, ValueError) as error:
        raise FileInvalid(
            shown(path), [Problem(line=0, text="JSON that is too deep or too long")]
        ) from error
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        said = (
            "not what manage.py dumpdata django_celery_beat writes: a list of model, pk and fields"
        )
        raise FileInvalid(shown(path), [Problem(line=0, text=said)])
    return [row for row in rows if row["model"].startswith(PREFIX)]


def _is_row(row: object) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("model"), str)
        and isinstance(row.get("fields"), dict)
    )


def _table(rows: list[dict[str, Any]], model: str) -> dict[str, Row]:
    return {str(row.get("pk")): row["fields"] for row in rows if row["model"] == PREFIX + model}


def _take(
    task: Row,
    tables: Mapping[str, Mapping[str, Row]],
    found: Imported,
    options: Options,
    where: str,
) -> None:
    name, worker = task.get("name"), task.get("task")
    if not isinstance(name, str) or not isinstance(worker, str) or not 0 < len(worker) < 128:
        raise _LeftOut("it has no name, or no task of at most 127 characters")
    if worker == BUILT_IN:
        raise _LeftOut("it belongs to Celery itself")
    if task.get("one_off"):
        raise _LeftOut("it runs once only: enqueue one job with scheduled_at")
    notes: list[str] = []
    fields: dict[str, Any] = {"worker": worker}
    fields |= _times(task, tables, options)
    fields |= _edges(task)
    if args := _args(task, notes):
        fields["args"] = args
    if isinstance(queue := task.get("queue"), str) and queue:
        fields["queue"] = queue
    if isinstance(description := task.get("description"), str) and description:
        fields["description"] = description[:2_000]
    fields |= {"catchup": "last", "overlap": "allow"}
    if task.get("enabled") is False:
        fields["paused"] = "disabled in django-celery-beat"
    if lost := sorted(
        key for key, value in task.items() if key not in STATE | CARRIED and _says(key, value)
    ):
        notes.append(f"not carried over: {', '.join(f'{key} {quoted(task[key])}' for key in lost)}")
    found.add(name, fields, notes, where=where)


def _says(key: str, value: object) -> bool:
    return value not in (None, "", "{}", "[]") and not (key == "enabled" and value is True)


def _times(task: Row, tables: Mapping[str, Mapping[str, Row]], options: Options) -> dict[str, Any]:
    given = [kind for kind in KINDS if task.get(kind) is not None]
    if given and given[0] in ("solar", "clocked"):
        why = {"solar": "the sun has no schedule here", "clocked": "it runs once only"}[given[0]]
        raise _LeftOut(f"its schedule is of the kind {given[0]}: {why}")
    if not given:
        raise _LeftOut("it has neither crontab nor interval")
    row = tables[given[0]].get(str(task[given[0]]))
    if row is None:
        raise _LeftOut(
            f"its {given[0]}schedule {quoted(task[given[0]])} is not in the file: dump the whole app"
        )
    return _interval(row) if given[0] == "interval" else _crontab(row, options)


def _interval(row: Row) -> dict[str, Any]:
    every, period = row.get("every"), row.get("period")
    if type(every) is not int or every < 1 or period not in PERIODS:
        raise _LeftOut(f"every {quoted(every)} {quoted(period)} is no interval")
    if period == "microseconds":
        if every % 1_000_000:
            raise _LeftOut(f"every {every} microseconds: give whole seconds")
        every, period = every // 1_000_000, "seconds"
    return {"cron": f"every {every} {period if every > 1 else period[:-1]}"}


def _crontab(row: Row, options: Options) -> dict[str, Any]:
    parts = ["".join(str(row.get(name, "*")).split()) for name in CRON_FIELDS]
    minute, hour, day, month, weekday = parts
    try:
        day, weekday = either_day(day, _weekdays(weekday))
    except NotSayable as error:
        raise _LeftOut(str(error)) from error
    zone = str(row.get("timezone") or options.zone)
    return {"cron": f"{minute} {hour} {day} {month} {weekday}", "timezone": zone}


def _weekdays(text: str) -> str:
    """Write names in three letters, and ranges that pass Saturday as lists, which Celery allows."""
    return ",".join(_weekday_range(part) for part in text.lower().split(","))


def _weekday_range(part: str) -> str:
    span, slash, step = part.partition("/")
    ends = [_weekday(end) for end in span.split("-")]
    if len(ends) != 2 or None in ends or (slash and not step.isdecimal()):
        return part if ends[0] is None or len(ends) > 1 else f"{ends[0]}{slash}{step}"
    low, high = ends[0] or 0, ends[1] or 0
    if low <= high:
        return f"{low}-{high}{slash}{step}" if low < high else str(low)
    wrapped = range(low, high + 8, max(1, int(step[:2] or 1)))
    return ",".join(str(day % 7) for day in wrapped)


def _weekday(text: str) -> int | None:
    if text in ("0", "1", "2", "3", "4", "5", "6", "7"):
        return int(text) % 7
    return WEEKDAYS.index(text[:3]) if text.isalpha() and text[:3] in WEEKDAYS else None


def _edges(task: Row) -> dict[str, Any]:
    pairs = (("start_at", task.get("start_time")), ("end_at", task.get("expires")))
    return {name: value for name, value in pairs if isinstance(value, str) and value}


def _args(task: Row, notes: list[str]) -> dict[str, Any]:
    named, listed = _json(task, "kwargs", dict), _json(task, "args", list)
    if not listed:
        return dict(named)
    if "args" in named:
        raise _LeftOut("it has both positional arguments and one named args")
    notes.append("positional arguments became the list args.args")
    return {"args": listed, **named}


def _json(task: Row, key: str, kind: type) -> Any:
    text = task.get(key) or "null"
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise _LeftOut(f"its {key} {quoted(text)} are not JSON") from error
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise _LeftOut(
            f"its {key} {quoted(text)} are no JSON {'object' if kind is dict else 'list'}"
        )
    return value
