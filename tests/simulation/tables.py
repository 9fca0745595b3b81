"""The tables in memory, their clock, and what the trigger of an edit does."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from quarterjack.cron import MOMENT
from tests.checks import Era, History, Line

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class State:
    """All that a failover may take back."""

    schedules: dict[int, dict[str, Any]] = field(default_factory=dict)
    ledger: list[Line] = field(default_factory=list)
    jobs: list[tuple[int, datetime]] = field(default_factory=list)
    eras: list[Era] = field(default_factory=list)
    term: int = 0
    holder: UUID | None = None
    session: object = None
    expires_at: datetime = NEVER
    renewed_at: datetime = NEVER


class Tables:
    """What Postgres keeps; `clock` is seconds since the beginning, `step` what its clock is off by."""

    def __init__(
        self, began: datetime, clock: Callable[[], float], *, without: str | None = None
    ) -> None:
        self.state = State()
        self.without = without
        self.step = timedelta(0)
        self.sessions: set[object] = set()
        self.locked: set[int] = set()
        self._began = began
        self._edits = 0
        self._clock = clock

    def now(self) -> datetime:
        passed = timedelta(seconds=self._clock())
        return self._began + passed + self.step

    def snapshot(self) -> State:
        session = self.state.session
        return copy.deepcopy(self.state, {id(session): session})

    def add(self, id: int, row: dict[str, Any], planned_from: datetime) -> None:
        self.state.schedules[id] = {
            "id": id,
            "version": 1,
            "updated_at": self._stamp(),
            "paused": False,
            "resume_at": None,
            "planned_from": planned_from,
            "next_run_at": None,
            "last_tick_at": None,
            "broken_reason": None,
            "applied_version": None,
            **row,
        }
        self._open_era(self.state.schedules[id], planned_from)

    def edit(self, id: int, **changes: Any) -> None:
        """Do what the trigger of an edit does."""
        row = self.state.schedules[id]
        before, at = dict(row), max(self.now(), row["planned_from"])
        row |= changes | {"version": row["version"] + 1, "broken_reason": None}
        row["updated_at"] = self._stamp()
        owed = max(before["planned_from"], before["last_tick_at"] or NEVER) + MOMENT
        if before["paused"]:
            self._note(before, owed, at, "paused")
            row["planned_from"] = at
        elif any(row[name] != before[name] for name in ("cron", "paused")):
            self._note(before, before["next_run_at"] or owed, at, "superseded")
            row["planned_from"], row["next_run_at"] = at, None
        else:
            at = (before["next_run_at"] or owed) - MOMENT
        begin = max(at, row["last_tick_at"] or at)
        self._close_era(id, begin)
        self._open_era(row, begin)

    def _stamp(self) -> datetime:
        """Give the instant of an edit, a microsecond of its own whatever is done to the clock."""
        self._edits += 1
        return self.now().replace(microsecond=0) + timedelta(microseconds=self._edits)

    def _note(self, row: dict[str, Any], start: datetime, end: datetime, outcome: str) -> None:
        taken = {(line.schedule_id, line.tick_at) for line in self.state.ledger}
        if start <= end and (row["id"], start) not in taken:
            line = Line(row["id"], start, end, outcome, row["version"], None, self.now())
            self.state.ledger.append(line)

    def _close_era(self, id: int, at: datetime) -> None:
        next(era for era in self.state.eras if era.id == id and era.end is None).end = at

    def _open_era(self, row: dict[str, Any], begin: datetime) -> None:
        self.state.eras.append(Era(row["id"], row["version"], row["cron"], row["paused"], begin))

    def history(self) -> History:
        """Give what the checks look at."""
        rows = self.state.schedules
        assert not any(row["broken_reason"] for row in rows.values())
        return History(
            ledger=self.state.ledger,
            jobs=self.state.jobs,
            eras=self.state.eras,
            waiting={id: row["next_run_at"] for id, row in rows.items()},
            now=self.now(),
        )
