"""The crontab of Oban's cron plugin, from an Elixir configuration.

Oban reads day of month AND weekday, lets runs overlap and never catches up. Queue and attempts of a worker are in
its module, which is not read: what an entry leaves out is left to the job type here.
"""

import re
from collections.abc import Mapping
from typing import Any

from quarterjack.cli.files import shown
from quarterjack.cli.importers import terms
from quarterjack.cli.importers.both_days import NotSayable, either_day
from quarterjack.cli.importers.outcome import UTC, Imported, Options
from quarterjack.cli.problems import FileInvalid, Problem, quoted

STEP = re.compile(r"([0-9]{1,2})/([0-9]{1,2})")
HIGHEST = (59, 23, 31, 12, 6)
CARRIED = ("args", "queue", "max_attempts", "priority", "tags", "name", "timezone", "paused")
KEPT = {"queue": str, "max_attempts": int, "priority": int}


def read(path: str, text: str, options: Options) -> Imported:
    """Read the entries of every `crontab:`, or those that stand alone."""
    found = Imported()
    pieces = terms.tokens(text)
    places = [at for at, piece in enumerate(pieces) if piece.text in ("crontab:", ":crontab")]
    try:
        if not places:
            _take_entries(_bare(pieces), options.zone, found)
        for place in places:
            zone = options.timezone or _zone_beside(pieces, place)
            after = place + 1 if pieces[place].text == "crontab:" else place + 2
            listed, goes_on = terms.Reader(pieces, after).first()
            _take_entries(listed, zone, found)
            if goes_on:
                found.leave(
                    f"line {pieces[place].line}",
                    "what is added to the list is Elixir: write it out",
                )
    except terms.TermInvalid as error:
        raise FileInvalid(shown(path), [Problem(line=error.line, text=str(error))]) from error
    if not found.schedules and not found.left_out:
        said = 'there is no crontab: [...] with entries such as {"@daily", MyApp.Worker}'
        raise FileInvalid(shown(path), [Problem(line=0, text=said)])
    if found.schedules:
        found.head.append(
            "What a worker's module says (queue, attempts, uniqueness) is not in the crontab: "
            "where it is missing here, the job type decides."
        )
    return found


def _bare(pieces: list[terms.Token]) -> list[Any]:
    """Give the terms of a text that is only a list, or only entries."""
    closed = [*pieces, terms.Token("close", "]", pieces[-1].line if pieces else 1)]
    listed, _ = terms.Reader(closed).items("]", 0)
    return listed[0] if len(listed) == 1 and isinstance(listed[0], list) else listed


def _zone_beside(pieces: list[terms.Token], place: int) -> str:
    """Find `timezone:` in the same brackets as `crontab:`."""
    start, depth = place, 0
    while start > 0:
        start -= 1
        depth += {"close": 1, "open": -1}.get(pieces[start].kind, 0)
        if depth < 0:
            start += 1
            break
    depth = 0
    for at in range(start, len(pieces) - 1):
        depth += {"close": -1, "open": 1}.get(pieces[at].kind, 0)
        if depth < 0:
            break
        if depth == 0 and pieces[at].text == "timezone:" and pieces[at + 1].kind == "text":
            return pieces[at + 1].text[1:-1]
    return UTC


def _take_entries(listed: Any, zone: str, found: Imported) -> None:
    if isinstance(listed, terms.Code):
        found.leave(
            "crontab", f"{quoted(listed.text)} has to be evaluated by Elixir: write the list out"
        )
        return
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, terms.Tuple):
            _take(entry, zone, found)
        elif isinstance(entry, terms.Code):
            found.leave(
                "crontab", f'{quoted(entry.text)} is no entry such as {{"@daily", MyApp.Worker}}'
            )


def _take(entry: terms.Tuple, zone: str, found: Imported) -> None:
    where = f"line {entry.line}"
    expression, worker, *rest = (*entry.items, None, None)[: max(2, len(entry.items))]
    if not isinstance(expression, str) or not isinstance(worker, terms.Name):
        found.leave(where, "the entry does not begin with an expression and a worker's module")
        return
    module = worker.text.removeprefix("Elixir.")
    given = rest[0] if rest and isinstance(rest[0], dict) else {}
    if any(not isinstance(each, dict) for each in rest):
        found.leave(where, f"{module}: its options have to be evaluated by Elixir")
        return
    if expression == "@reboot":
        found.leave(where, f"{module} runs @reboot: nothing here runs at a start; enqueue it there")
        return
    notes: list[str] = []
    try:
        fields = {"worker": module, "cron": _expression(expression), "timezone": zone}
        fields |= _options(given, notes)
    except ValueError as error:
        found.leave(where, f"{module}: {error}")
        return
    name = given.get("name")
    wanted = (
        name if isinstance(name, str) else (name.text if isinstance(name, terms.Name) else module)
    )
    found.add(wanted, fields | {"catchup": "skip", "overlap": "allow"}, notes, where=where)


def _expression(text: str) -> str:
    """Say an Oban expression in ours: `n/s` runs to the end of the field, both days must fit."""
    parts = text.split()
    if len(parts) != len(HIGHEST):
        return text
    parts = [
        ",".join(
            STEP.sub(rf"\1-{highest}/\2", each) if STEP.fullmatch(each) else each
            for each in part.split(",")
        )
        for part, highest in zip(parts, HIGHEST, strict=True)
    ]
    try:
        parts[2], parts[4] = either_day(parts[2], parts[4])
    except NotSayable as error:
        raise ValueError(f"it {error}") from error
    return " ".join(parts)


def _options(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, kind in KEPT.items():
        if key in given:
            value = terms.plain(given[key])
            if type(value) is not kind:
                raise ValueError(f"its {key} is {quoted(value)}")
            fields[key] = value
    if isinstance(zone := given.get("timezone"), str):
        fields["timezone"] = zone
    if tags := terms.plain(given.get("tags", [])):
        fields["tags"] = [str(tag).lower() for tag in (tags if isinstance(tags, list) else [tags])]
    args = terms.plain(given.get("args", {}))
    if not isinstance(args, dict) and args != []:
        raise ValueError(f"its args are {quoted(args)}: not a map")
    if args:
        fields["args"] = args
    if given.get("paused") is True:
        fields["paused"] = "paused in Oban"
    if lost := [key for key in given if key not in CARRIED]:
        notes.append(f"not carried over: {', '.join(lost)}")
    return fields
