"""What becomes of the ticks that are due: pure, from the watermark and the database's clock alone.

A tick younger than GRACE is late, not missed: it is enqueued under every policy, so a failover costs no run.
The others are missed, and the schedule's catch-up decides: `skip` none, `last` the newest one of all that
are due, `all` those inside the window up to the limit, the newest kept. Every tick from the watermark on
gets its line in the ledger; long rows of equal outcome share one. More than MOST missed runs are enqueued
in several passes, so that the catch-up of one schedule does not keep the others waiting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from quarterjack import cron
from quarterjack.queries.ticks import Due
from quarterjack.unique import Unique

GRACE = timedelta(seconds=30)
COUNTED = 1_000
MOST = 5_000
NAMESPACE = UUID("b3a1f2a4-6a54-5d5c-9e0e-6f2f8f0a7c11")
MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One ledger line: a tick, or every tick from `tick_at` to `until_at`."""

    tick_at: datetime
    outcome: str
    reason: str | None = None
    until_at: datetime | None = None
    ticks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decisions for one schedule, oldest first, and its next watermark."""

    due: Due
    next_run_at: datetime | None
    decisions: Sequence[Decision] = field(default_factory=list)

    @property
    def decided_until(self) -> datetime:
        last = self.decisions[-1]
        return last.until_at or last.tick_at


def decide(due: Due, now: datetime) -> Verdict:
    """Decide every tick of the schedule up to `now`; CronError if it cannot be read.

    `now` is at or after the watermark. The watermark itself is taken as a tick: it was computed by the
    same evaluator, and it is what the compare-and-set checks.
    """
    zone = cron.zone(due.timezone)
    parsed = cron.read(due.cron, due.name)
    upcoming = parsed.next_after(now, zone, due.dst)
    late_from = max(due.next_run_at, now - GRACE)
    late = list(parsed.ticks(late_from, now, zone, due.dst))
    if due.next_run_at >= now - GRACE and due.next_run_at not in late:
        late.insert(0, due.next_run_at)

    if due.next_run_at >= now - GRACE:
        chosen = _one_at_a_time(due, [_enqueued(tick) for tick in late])
        return Verdict(due=due, next_run_at=upcoming, decisions=chosen)

    missed = Span(parsed, zone, due.dst, due.next_run_at, now - GRACE - MOMENT)
    if due.catchup == "skip":
        line = missed.line("skipped_missed", "missed while no scheduler led; catch-up is skip")
        decisions = [*line, *map(_enqueued, late)]
    elif due.catchup == "last":
        decisions = _newest(due, missed, late, now)
    else:
        decisions, kept = _all(due, missed, now)
        if len(kept) > MOST:
            upcoming, kept, late = kept[MOST], kept[:MOST], []
        decisions += map(_enqueued, [*kept, *late])
    return Verdict(due=due, next_run_at=upcoming, decisions=_one_at_a_time(due, decisions))


@dataclass(frozen=True, slots=True)
class Span:
    """The ticks of one schedule from an instant that is a tick to another, bounds included."""

    parsed: cron.Cron | cron.Interval
    zone: Any
    dst: str
    start: datetime
    end: datetime

    def newest(self) -> datetime:
        found = self.parsed.prev_before(self.end + MOMENT, self.zone, self.dst)
        return self.start if found is None or found < self.start else found

    def last(self, count: int) -> list[datetime]:
        """Give the newest `count` ticks, in order; looks at no more than twice as many."""
        step = timedelta(seconds=1)
        while True:
            begin = max(self.start, self.end - step * count)
            found = list(self.parsed.ticks(begin, self.end, self.zone, self.dst))
            if len(found) >= count or begin == self.start:
                if begin == self.start and (not found or found[0] != self.start):
                    found.insert(0, self.start)
                return found[-count:]
            step *= 2

    def before(self, tick: datetime) -> "Span | None":
        earlier = Span(self.parsed, self.zone, self.dst, self.start, tick - MOMENT)
        return earlier if self.start < tick else None

    def line(self, outcome: str, reason: str) -> list[Decision]:
        until = self.newest()
        if until == self.start:
            return [Decision(tick_at=self.start, outcome=outcome, reason=reason)]
        return [
            Decision(
                tick_at=self.start,
                until_at=until,
                ticks=self._count(),
                outcome=outcome,
                reason=reason,
            )
        ]

    def _count(self) -> int | None:
        """Count up to COUNTED ticks; None for more, which nobody needs to know exactly."""
        count, tick = 1, self.parsed.next_after(self.start, self.zone, self.dst)
        while tick is not None and tick <= self.end:
            count, tick = count + 1, self.parsed.next_after(tick, self.zone, self.dst)
            if count > COUNTED:
                return None
        return count


def _newest(due: Due, missed: Span, late: list[datetime], now: datetime) -> list[Decision]:
    if late:
        earlier = Span(missed.parsed, missed.zone, missed.dst, missed.start, late[-1] - MOMENT)
        return [*earlier.line("coalesced", _into(late[-1])), _enqueued(late[-1])]
    newest = missed.newest()
    if newest < now - due.catchup_window:
        return missed.line("skipped_window", f"older than its window of {due.catchup_window}")
    earlier_missed = missed.before(newest)
    lines = earlier_missed.line("coalesced", _into(newest)) if earlier_missed else []
    return [*lines, _enqueued(newest)]


def _all(due: Due, missed: Span, now: datetime) -> tuple[list[Decision], list[datetime]]:
    """Give the lines of what is dropped, and the ticks that are kept."""
    kept = [tick for tick in missed.last(due.catchup_limit) if tick >= now - due.catchup_window]
    if not kept:
        reason = f"older than its window of {due.catchup_window}"
        return missed.line("skipped_window", reason), []
    dropped = missed.before(kept[0])
    reason = f"beyond its limit of {due.catchup_limit} or window of {due.catchup_window}"
    return dropped.line("skipped_window", reason) if dropped else [], kept


def _one_at_a_time(due: Due, decisions: Sequence[Decision]) -> list[Decision]:
    """Let one run through where runs must not overlap; the statement looks at those that live already."""
    runs = [decision.tick_at for decision in decisions if decision.outcome == "enqueued"]
    if due.overlap == "allow" or len(runs) < 2:
        return list(decisions)
    chosen = runs[-1] if due.overlap == "cancel_previous" else runs[0]
    reason = f"the run of {chosen.isoformat()} was enqueued with it"
    return [
        Decision(tick_at=decision.tick_at, outcome="skipped_overlap", reason=reason)
        if decision.outcome == "enqueued" and decision.tick_at != chosen
        else decision
        for decision in decisions
    ]


def _enqueued(tick: datetime) -> Decision:
    return Decision(tick_at=tick, outcome="enqueued")


def _into(tick: datetime) -> str:
    return f"coalesced into the run of {tick.isoformat()}"


def to_move(verdict: Verdict) -> dict[str, Any]:
    """Give the compare-and-set of one schedule as the statement takes it."""
    return {
        "id": verdict.due.id,
        "version": verdict.due.version,
        "expected_at": verdict.due.next_run_at.isoformat(),
        "next_run_at": verdict.next_run_at and verdict.next_run_at.isoformat(),
        "decided_until": verdict.decided_until.isoformat(),
    }


def to_rows(verdict: Verdict, *, term: int, traceparent: str | None) -> list[dict[str, Any]]:
    """Give the ledger lines, and the meta of the jobs, as the statement takes them."""
    due = verdict.due
    unique = Unique.from_json(due.uniqueness) if due.uniqueness is not None else None
    key = unique and unique.key(worker=due.worker, queue=due.queue, args=due.args)
    rows = []
    for decision in verdict.decisions:
        meta: dict[str, Any] = {
            "cron": True,
            "cron_expr": due.cron,
            "cron_name": due.name,
            "cron_tz": due.timezone,
            "schedule_id": due.id,
            "schedule_version": due.version,
            "tick_at": decision.tick_at.isoformat(),
            "tick_id": tick_id(due.id, decision.tick_at),
            "term": term,
            "trigger": "schedule",
        }
        if due.timeout:
            meta["timeout"] = due.timeout.total_seconds()
        if key:
            meta["qj_unique"] = key
        if traceparent:
            meta["traceparent"] = traceparent
        rows.append(
            {
                "schedule_id": due.id,
                "tick_at": decision.tick_at.isoformat(),
                "until_at": decision.until_at and decision.until_at.isoformat(),
                "ticks": decision.ticks,
                "outcome": decision.outcome,
                "reason": decision.reason,
                "meta": meta,
                "unique_states": unique and unique.blocking_states(),
                "unique_period": unique and unique.period and f"{unique.period.total_seconds()} s",
            }
        )
    return rows


def tick_id(schedule_id: int, tick_at: datetime) -> str:
    """Name a tick for ever, the same in every process."""
    return str(uuid5(NAMESPACE, f"{schedule_id}/{tick_at.isoformat()}"))
