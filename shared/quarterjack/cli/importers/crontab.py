"""crontab(5) of users and of the system: each command becomes the args of one job.

CRON_TZ moves the times, TZ only the command. There is no catch-up in cron and nothing keeps runs apart, so the
schedules say `catchup: skip` and `overlap: allow`.
"""

import re
from pathlib import PurePosixPath
from typing import Any

from quarterjack.cli.importers.outcome import Imported, Options, slug
from quarterjack.cli.problems import quoted

ASSIGNMENT = re.compile(
    r"""[ \t]*(?:"([^"]*)"|'([^']*)'|([A-Za-z_][A-Za-z0-9_]*))[ \t]*=[ \t]*(.*)"""
)
RANDOM = re.compile(r"([0-9]*)~([0-9]*)")
SYSTEM_PATHS = re.compile(r"(?:^|/)etc/(?:crontab|cron\.d/[^/]+)$")
NICKNAMES = {"@every_minute": "* * * * *"}
MAILS = ("MAILTO", "MAILFROM")
FIELDS = 5
PLAIN = re.compile(
    r"sudo|env|nice|ionice|exec|flock|timeout|bash|sh|python3?|php|ruby|perl|node|cd|test|\[|\]|\.|",
)


def read(path: str, text: str, options: Options) -> Imported:
    """Read the entries of a crontab, in their order."""
    reader = _Crontab(options, system=options.system or bool(SYSTEM_PATHS.search(path)))
    for number, line in enumerate(text.split("\n"), start=1):
        reader.line(number, line.rstrip("\r"))
    return reader.finish()


class _Crontab:
    """What earlier lines mean for later ones: the environment, the zone, a comment above."""

    def __init__(self, options: Options, *, system: bool) -> None:
        self.found = Imported()
        self._options = options
        self._system = system
        self._zone: str | None = options.timezone
        self._zone_given = True
        self._jitter = 0
        self._env: dict[str, str] = {}
        self._comment: list[str] = []

    def line(self, number: int, line: str) -> None:
        plain = line.strip(" \t")
        if plain.startswith("#"):
            self._comment.append(plain.lstrip("#").strip())
        elif not plain:
            self._comment = []
        elif assignment := ASSIGNMENT.fullmatch(line):
            self._comment = []
            self._assign(number, assignment)
        else:
            self._entry(number, plain)
            self._comment = []

    def finish(self) -> Imported:
        if not self._zone_given:
            self.found.head.append(
                "The times of a crontab are those of its machine; Etc/UTC is assumed: "
                "give --timezone for another zone."
            )
        return self.found

    def _assign(self, number: int, match: re.Match[str]) -> None:
        name = match[1] or match[2] or match[3] or ""
        value = match[4].strip(" \t")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        where = f"line {number}"
        if name == "CRON_TZ":
            self._zone = value or self._options.timezone
        elif name == "RANDOM_DELAY" and value.isascii() and value.isdecimal() and len(value) < 5:
            self._jitter = int(value)
        elif name in MAILS:
            self.found.head.append(f"{where}: {name}={quoted(value)}: nothing is mailed here.")
        else:
            self._env[name] = value

    def _entry(self, number: int, line: str) -> None:
        where = f"line {number}"
        notes: list[str] = []
        if line.startswith("-"):
            line = line[1:].lstrip()
            notes.append("the leading - (no entry in the log) has no meaning here")
        expression, rest = _split(line)
        user = None
        if self._system:
            user, _, rest = rest.replace("\t", " ").partition(" ") if rest else ("", "", "")
            rest = rest.strip()
        if not rest:
            said = "there is no command" + (" after the user" if self._system else "")
            return self.found.leave(where, f"{quoted(line)}: {said}")
        if expression == "@reboot":
            return self.found.leave(
                where, f"{quoted(line)}: nothing here runs at a start; enqueue it there"
            )
        expression, more = _translated(expression)
        notes += more
        fields = self._fields(expression, rest, user, notes)
        self.found.add(_name(rest), fields, notes, where=where)
        return None

    def _fields(
        self, expression: str, rest: str, user: str | None, notes: list[str]
    ) -> dict[str, Any]:
        command, given = _command(rest)
        args: dict[str, Any] = {"command": command}
        if given is not None:
            args["input"] = given
        if user is not None:
            args["user"] = user
        if self._env:
            args["env"] = dict(self._env)
        if "TZ" in self._env:
            notes.append(
                "TZ is for the command only; cron reads times in CRON_TZ or the machine's zone"
            )
        if self._zone is None:
            self._zone_given = False
        fields: dict[str, Any] = {"worker": self._options.worker, "cron": expression}
        fields["timezone"] = self._zone or self._options.zone
        if self._jitter:
            fields["jitter"] = f"{self._jitter}m"
            notes.append("RANDOM_DELAY became a jitter: the same delay every time")
        if description := " ".join(self._comment).strip():
            fields["description"] = description[:2_000]
        return fields | {"args": args, "catchup": "skip", "overlap": "allow"}


def _split(line: str) -> tuple[str, str]:
    """Part the times from the command."""
    if line.startswith("@"):
        parts = line.split(None, 1)
        return parts[0].lower(), parts[1] if len(parts) > 1 else ""
    parts = line.split(None, FIELDS)
    return " ".join(parts[:FIELDS]), parts[FIELDS] if len(parts) > FIELDS else ""


def _translated(expression: str) -> tuple[str, list[str]]:
    """Say `a~b`, a time that cron draws at each start, with H, which stays the same."""
    expression = NICKNAMES.get(expression, expression)
    parts = expression.split(" ")
    changed = [_hashed(part) for part in parts]
    if changed == parts:
        return expression, []
    return " ".join(changed), [
        f"{expression} became {' '.join(changed)}: drawn once, from the name"
    ]


def _hashed(part: str) -> str:
    match = RANDOM.fullmatch(part)
    if match is None:
        return part
    return f"H({match[1]}-{match[2]})" if match[1] and match[2] else "H"


def _command(text: str) -> tuple[str, str | None]:
    """Part the command from its standard input: the first % ends it, further ones are line ends."""
    parts = re.split(r"(?<!\\)%", text)
    plain = [part.replace("\\%", "%") for part in parts]
    if len(plain) == 1:
        return plain[0], None
    return plain[0].rstrip(), "\n".join(plain[1:]) + "\n"


def _name(command: str) -> str:
    """Name a schedule for the program that it runs."""
    words = [word for word in re.split(r"[\s;&|<>()`$\"']+", command) if word]
    for before, word in zip(["", *words], words, strict=False):
        last = PurePosixPath(word).name
        is_option = word.startswith("-") or "=" in word or word.isdecimal()
        if not is_option and before != "cd" and not PLAIN.fullmatch(last):
            return slug(last)
    return "command"
