"""What the scheduler asks of Postgres, in memory: each function is one atomic statement.

It knows what decides ticks: lease, watermark, version, pause, ledger and one job for each tick. `without` names
a line of the real statement to leave out, which the checks must notice.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from quarterjack.queries import lease
from quarterjack.queries.outlook import Outlook
from quarterjack.queries.plans import Unplanned
from quarterjack.queries.ticks import Due, Struck
from tests.checks import Line
from tests.simulation.tables import NEVER, Tables

LATER = datetime.max.replace(tzinfo=UTC)
LINES = (
    "compare-and-set",
    "fence",
    "version test",
    "never early",
    "compare-and-set of the plan",
    "version test of the plan",
    "instant test of the plan",
    "planning after the last tick",
)


class Postgres(Tables):
    """The statements; each is atomic."""

    # -- the statements of quarterjack.queries.lease

    def beat(self, session: object, *, uuid: UUID, term: int, ttl: timedelta, **_: Any) -> Any:
        state, now = self.state, self.now()
        leading = state.term == term and state.holder == uuid
        if leading:
            state.renewed_at, state.expires_at, state.session = now, now + ttl, session
        return lease.Standing(
            leading=leading,
            term=state.term,
            holder=state.holder,
            remaining=max(state.expires_at - now, timedelta(0)),
            free=self._free(now, ttl),
            now=now,
        )

    def _free(self, now: datetime, ttl: timedelta) -> bool:
        state = self.state
        return not now < state.expires_at <= now + 2 * ttl or state.session not in self.sessions

    def acquire(
        self, session: object, *, uuid: UUID, seen_term: int, ttl: timedelta, **_: Any
    ) -> int | None:
        state, now = self.state, self.now()
        if state.term != seen_term or not self._free(now, ttl):
            return None
        state.term, state.holder, state.session = seen_term + 1, uuid, session
        state.renewed_at, state.expires_at = now, now + ttl
        return state.term

    def resign(self, session: object, *, uuid: UUID, term: int) -> None:
        if (self.state.holder, self.state.term) == (uuid, term):
            self.state.holder, self.state.expires_at = None, NEVER

    # -- the one of quarterjack.queries.outlook

    def look(self, session: object, *, patience: timedelta) -> Outlook:
        waiting = [
            row["next_run_at"]
            for row in self.state.schedules.values()
            if row["next_run_at"] and not row["paused"] and row["broken_reason"] is None
        ]
        first = min(waiting, default=None)
        return Outlook(
            edited=bool(self.unplanned(session, limit=1)),
            resumable=False,
            orphaned=False,
            ended=False,
            ticks_in=first and max(timedelta(0), first - self.now()),
            jobs_in=None,
            backfills_in=None,
        )

    # -- those of quarterjack.queries.plans

    def unplanned(self, session: object, *, limit: int) -> list[Unplanned]:
        return [
            _typed(Unplanned, row | {"planned_from": self._owed_from(row)})
            for row in self.state.schedules.values()
            if row["applied_version"] != row["version"]
            or (row["next_run_at"] is None and not row["paused"] and row["broken_reason"] is None)
        ][:limit]

    def _owed_from(self, row: dict[str, Any]) -> datetime:
        planned_from: datetime = row["planned_from"]
        if self.without == "planning after the last tick":
            return planned_from
        return max(planned_from, row["last_tick_at"] or planned_from)

    def resume_due(self, session: object) -> list[str]:
        rows = self.state.schedules
        due = [
            id
            for id, row in rows.items()
            if row["paused"] and id not in self.locked and self.now() >= (row["resume_at"] or LATER)
        ]
        for id in due:
            self.edit(id, paused=False, resume_at=None)
        return [rows[id]["name"] for id in due]

    def plan(
        self, session: object, *, holder: UUID, term: int, plans: Sequence[dict[str, Any]], **_: Any
    ) -> set[int]:
        held = set()
        for wanted in plans if self._held(holder, term) else ():
            row = self.state.schedules[wanted["id"]]
            if wanted["id"] not in self.locked and self._same_edit(row, wanted, " of the plan"):
                first = _instant(wanted["next_run_at"])
                moves = self.without == "compare-and-set of the plan"
                row["next_run_at"] = first if moves else row["next_run_at"] or first
                row["broken_reason"] = wanted["broken_reason"]
                row["applied_version"] = wanted["version"]
                held.add(row["id"])
        return held

    def _same_edit(self, row: dict[str, Any], read: dict[str, Any], where: str = "") -> bool:
        """Say whether the edit that was read stands: its version, and its instant if that was given out again."""
        if self.without == f"version test{where}":
            return True
        same = self.without == f"instant test{where}" or row["updated_at"] == _instant(
            read["updated_at"]
        )
        return same and bool(row["version"] == read["version"])

    def mark_broken(
        self, session: object, *, holder: UUID, term: int, id: int, reason: str, **_: Any
    ) -> None:
        raise AssertionError(f"schedule {id} was set aside: {reason}")

    def _held(self, holder: UUID, term: int) -> bool:
        return self.without == "fence" or (self.state.holder, self.state.term) == (holder, term)

    # -- those of quarterjack.queries.ticks

    def due(
        self,
        session: object,
        *,
        horizon: timedelta,
        grace: timedelta,
        limit: int,
        most_overdue: int,
    ) -> list[Due]:
        rows = [
            row
            for row in self.state.schedules.values()
            if not row["paused"]
            and row["broken_reason"] is None
            and row["next_run_at"] is not None
            and row["next_run_at"] <= self.now() + horizon
        ]
        rows.sort(key=lambda row: row["next_run_at"])
        return [_typed(Due, row) for row in rows[:limit]]

    def strike(
        self,
        session: object,
        *,
        holder: UUID,
        term: int,
        moves: Sequence[dict[str, Any]],
        decisions: Sequence[dict[str, Any]],
    ) -> tuple[bool, list[Struck]]:
        if not self._held(holder, term):
            return False, []
        moved = {move["id"] for move in moves if self._move(move)}
        struck = [self._decide(each, term) for each in decisions if each["schedule_id"] in moved]
        return True, struck

    def _move(self, move: dict[str, Any]) -> bool:
        row, until = self.state.schedules[move["id"]], _instant(move["decided_until"])
        assert until is not None
        if not (
            self._same_edit(row, move)
            and (
                row["next_run_at"] == _instant(move["expected_at"])
                or self.without == "compare-and-set"
            )
            and not row["paused"]
            and move["id"] not in self.locked
            and (until <= self.now() or self.without == "never early")
        ):
            return False
        row["next_run_at"], row["last_tick_at"] = _instant(move["next_run_at"]), until
        return True

    def _decide(self, decision: dict[str, Any], term: int) -> Struck:
        id, tick_at = decision["schedule_id"], _instant(decision["tick_at"])
        assert tick_at is not None
        row, now = self.state.schedules[id], self.now()
        read = decision["meta"]["schedule_version"]
        assert read == row["version"], f"{tick_at} of schedule {id} is decided as in version {read}"
        self.state.ledger.append(
            Line(
                id,
                tick_at,
                _instant(decision["until_at"]),
                decision["outcome"],
                row["version"],
                term,
                now,
            )
        )
        job_id = None
        if decision["outcome"] == "enqueued":
            self.state.jobs.append((id, tick_at))
            job_id = len(self.state.jobs)
        return Struck(
            schedule_id=id,
            tick_at=tick_at,
            outcome=decision["outcome"],
            reason=decision["reason"],
            job_id=job_id,
            queue=row["queue"],
            decided_at=now,
            stopped=[],
        )


def _typed(kind: Any, row: dict[str, Any]) -> Any:
    return kind(**{each.name: row[each.name] for each in fields(kind)})


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
