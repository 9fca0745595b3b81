"""A file of schedules: what it asks for, or all that is wrong with it."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from quarterjack import durations
from quarterjack.cli.files import STDIN, read_text, shown
from quarterjack.cli.problems import Problem, quoted
from quarterjack.cli.tree import Node, read_leniently
from quarterjack.definition import DURATIONS, INSTANTS, LONGEST_REASON, NAME, NAME_RULE, Definition
from quarterjack.drift import written_uniqueness
from quarterjack.encoding import encode_object
from quarterjack.errors import JobInvalid
from quarterjack.model import JobType
from quarterjack.unique import Unique

SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")
OF_JOB_TYPE = ("queue", "priority", "max_attempts", "tags")
FIELDS = ("worker", *Definition.model_fields, "uniqueness", "paused")
TOP = ("schedules", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One schedule of a file: `given` are its checked values, `paused` is None if the file does not say."""

    name: str
    line: int
    worker: str
    given: Definition
    uniqueness: dict[str, Any] | None
    paused: bool | str | None
    lines: Mapping[str, int]

    def definition(self, job_type: JobType | None) -> Definition:
        """Add the defaults of the job type to what is not given."""
        if job_type is None:
            return self.given
        missing = [name for name in OF_JOB_TYPE if name not in self.lines]
        return self.given.model_copy(update={name: getattr(job_type, name) for name in missing})

    def unique(self, job_type: JobType | None) -> dict[str, Any] | None:
        """Give the uniqueness as the table holds it."""
        if "uniqueness" in self.lines or job_type is None:
            return self.uniqueness
        return job_type.uniqueness

    def written(self, job_type: JobType | None) -> dict[str, Any]:
        """Give it as a person would write it in full."""
        definition = self.definition(job_type).written()
        return {
            "worker": self.worker,
            **definition,
            "uniqueness": written_uniqueness(self.unique(job_type)),
        }

    def line_of(self, name: str) -> int:
        return self.lines.get(name, self.line)


@dataclass(slots=True)
class File:
    """What was read; with problems it must not be applied."""

    name: str
    source: str
    wanted: list[Wanted] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, line: int, text: str) -> None:
        self.problems.append(Problem(line=line, text=text))


def read(path: str) -> File:
    """Read a file of schedules; FileInvalid if there is no way to read on."""
    name = shown(path)
    documents, problems = read_leniently(name, read_text(path))
    source = "stdin" if path == STDIN else (PurePath(path).name[:100] or "file")
    file = File(name=name, source=source, problems=problems)
    if len(documents) > 1:
        file.complain(
            documents[1].line, "a second document: put all schedules under one schedules:"
        )
    top = documents[0] if documents else Node(1, None)
    if not isinstance(top.value, dict) or "schedules" not in top.value:
        file.complain(top.line, "there is no mapping schedules: at the top")
        return file
    file.problems += (p for p in _unknown(top, TOP, "the file") if ": 'x-" not in p.text)
    if source_node := top.get("source"):
        _take_source(source_node, file)
    _take_schedules(top.value["schedules"], file)
    return file


def _take_source(node: Node, file: File) -> None:
    if isinstance(node.value, str) and SOURCE.fullmatch(node.value):
        file.source = node.value
    else:
        file.complain(
            node.line, "source: use letters, digits, and _ . : - after the first; at most 100"
        )


def _take_schedules(node: Node, file: File) -> None:
    if node.value is None:
        return
    if not isinstance(node.value, dict):
        file.complain(node.line, "schedules: give a mapping from names to definitions")
        return
    for name, each in node.value.items():
        line = node.key_lines.get(name, each.line)
        if NAME.fullmatch(name):
            _take(name, line, each, file)
        else:
            file.complain(line, f"the name {quoted(name)}: {NAME_RULE}")


def _take(name: str, line: int, node: Node, file: File) -> None:
    if not isinstance(node.value, dict):
        file.complain(line, f"{name}: give a mapping with worker and cron")
        return
    lines = {key: node.key_lines.get(key, each.line) for key, each in node.value.items()}
    before = len(file.problems)
    file.problems += _unknown(node, FIELDS, name)
    values = {key: each.plain() for key, each in node.value.items() if key in FIELDS}
    worker = values.pop("worker", None)
    if not isinstance(worker, str) or not 0 < len(worker) < 128:
        said = (
            "give the name of a job, of 1 to 127 characters" if "worker" in lines else "is missing"
        )
        file.complain(lines.get("worker", line), f"{name}: worker: {said}")
    paused, uniqueness = values.pop("paused", None), values.pop("uniqueness", None)
    for key, said in [*_misused(values), *_odd_pause(paused)]:
        file.complain(lines[key], f"{name}: {key}: {said}")
    unique = None
    if uniqueness is not None:
        try:
            unique = _read_uniqueness(uniqueness)
        except (JobInvalid, ValueError) as error:
            file.complain(lines["uniqueness"], f"{name}: uniqueness: {error}")
    given = _check(name, line, lines, values, file)
    if given is not None and len(file.problems) == before:
        file.wanted.append(
            Wanted(
                name=name,
                line=line,
                worker=str(worker),
                given=given,
                uniqueness=unique,
                paused=paused,
                lines=lines,
            )
        )


def _check(
    name: str, line: int, lines: Mapping[str, int], values: dict[str, Any], file: File
) -> Definition | None:
    try:
        given = Definition.model_validate(values)
        encode_object("args", given.args)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            key, *rest = map(str, problem["loc"])
            where = ".".join([key, *(part for part in rest if part.isdecimal())])
            said = (
                problem["msg"].removeprefix("Value error, ").replace("Field required", "is missing")
            )
            file.complain(lines.get(key, line), f"{name}: {where}: {said}")
        return None
    except JobInvalid as error:
        file.complain(lines.get("args", line), f"{name}: {error}")
        return None
    return given


def _misused(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find what a lenient reading would take for something else: bare numbers, and true for 1."""
    for key, value in values.items():
        if isinstance(value, bool):
            yield key, f"{str(value).lower()} is no value of it"
        elif key in DURATIONS and isinstance(value, int | float) and value != 0:
            yield key, f"{value} of what? Write a unit, such as {value}s or {value}m"
        elif key in INSTANTS and isinstance(value, int | float):
            yield key, f"{value} is no time: write such as 2026-12-31 18:00"


def _odd_pause(paused: object) -> Iterator[tuple[str, str]]:
    if paused is not None and not isinstance(paused, bool | str):
        yield "paused", "write true, false, or the reason"
    elif isinstance(paused, str) and not 0 < len(paused.strip()) <= LONGEST_REASON:
        yield "paused", f"give a reason of 1 to {LONGEST_REASON} characters"


def _read_uniqueness(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("give a mapping with period, fields, keys and states, or null for none")
    known = ("period", "fields", "keys", "states")
    if odd := [key for key in value if key not in known]:
        raise ValueError(f"{quoted(odd[0])} is unknown: {', '.join(known)} can be given")
    period = value.get("period")
    if isinstance(period, int | float) and not isinstance(period, bool):
        raise ValueError(f"period: {period} of what? Write a unit, such as {period}s")
    if isinstance(period, str):
        read = durations.read(period)
        value = {**value, "period": max(read, timedelta(0)).total_seconds()}
    return Unique.from_json(value).to_json()


def _unknown(node: Node, known: Collection[str], name: str) -> Iterator[Problem]:
    assert isinstance(node.value, dict)
    for key, each in node.value.items():
        if key in known:
            continue
        close = get_close_matches(key[:60], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        line = node.key_lines.get(key, each.line)
        yield Problem(line=line, text=f"{name}: {quoted(key)} is unknown: {hint}")
