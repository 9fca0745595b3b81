"""What an import found: schedules with notes, and what was left out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quarterjack import cron

LONGEST_NAME = 120
ODD = re.compile(r"[^A-Za-z0-9_.:-]+")
UTC = "Etc/UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line adds: the job that runs commands, and the zone of times without one."""

    worker: str = ""
    timezone: str | None = None
    system: bool = False

    @property
    def zone(self) -> str:
        return self.timezone or UTC


@dataclass(slots=True)
class Imported:
    """Collects schedules under names that are free; `left_out` are sentences that begin with a place."""

    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    head: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, wanted: str, fields: Mapping[str, Any], notes: list[str], *, where: str) -> None:
        """Take a schedule if its times can be read, under this name or one like it."""
        name = self._free(wanted)
        try:
            cron.read(fields["cron"], name)
            cron.zone(fields.get("timezone", UTC))
        except cron.CronError as error:
            self.leave(where, f"{wanted}: {error}")
            return
        if name != wanted:
            notes = [f"named {wanted!r:.80} there", *notes]
        self.schedules[name] = dict(fields)
        self.notes[name] = [f"{where}: {note}" for note in notes]

    def leave(self, where: str, why: str) -> None:
        """Say what was not taken, and why."""
        self.left_out.append(f"{where}: {why}")

    def _free(self, wanted: str) -> str:
        name = slug(wanted)
        for number in range(2, len(self.schedules) + 3):
            if name not in self.schedules:
                break
            name = f"{slug(wanted)}-{number}"
        return name


def slug(text: str) -> str:
    """Make a schedule's name of a text."""
    name = ODD.sub("-", text).strip("-_.:")[:LONGEST_NAME]
    return name or "schedule"
