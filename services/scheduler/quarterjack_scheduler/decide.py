"""What becomes of the ticks that are due: pure, from the watermark and the database's clock alone.

A tick younger than GRACE is late, not missed: it is enqueued under every policy, so a failover costs no run.
The others are missed, and the schedule's catch-up decides: `skip` none, `last` the newest one of all that
are due, `all` those inside the window up to the limit, the newest kept. A tick in a blackout makes no job under
any of them. Every tick from the watermark on gets its line in the ledger; long rows of equal outcome share one.
More than MOST missed runs are enqueued in several passes, so that the catch-up of one schedule does not keep the
others waiting.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from quarterjack import cron
from quarterjack.queries.ticks import Due
from quarterjack.unique import Unique

GRACE = timedelta(seconds=30)
MOST = 5_000
STRETCH = 1_000
NAMESPACE = UUID("b3a1f2a4-6a54-5d5c-9e0e-6f2f8f0a7c11")
Calendars = Mapping[str, cron.Holidays]
NO_CALENDARS: Calendars = MappingProxyType({})


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


def decide(
    due: Due,
    now: datetime,
    calendars: Calendars = NO_CALENDARS,
    progressed: Callable[[], object] = lambda: None,
) -> Verdict:
    """Decide every tick of the schedule up to `now`; CronError if it cannot be read.

    What looks at many ticks calls `progressed` from time to time.
    `now` is at or after the watermark. The watermark itself is taken as a tick: it was computed by the
    same evaluator, and it is what the compare-and-set checks.
    """
    timing = cron.Timing.of(due, calendars)
    upcoming = timing.next_after(now)
    late = list(Span(timing, max(due.next_run_at, now - GRACE), now).ticks(due.next_run_at))
    if due.next_run_at >= now - GRACE:
        chosen = _one_at_a_time(due, [_run(timing, tick) for tick in late])
        return Verdict(due=due, next_run_at=upcoming, decisions=chosen)

    missed = Span(timing, due.next_run_at, now - GRACE - cron.MOMENT)
    if due.catchup == "skip":
        line = missed.line("skipped_missed", "missed while no scheduler led; catch-up is skip")
        decisions = [*line, *(_run(timing, tick) for tick in late)]
    elif due.catchup == "last":
        decisions = _newest(due, Span(timing, due.next_run_at, now), now)
    else:
        decisions, kept = _all(due, missed, now, progressed)
        if len(kept) > MOST:
            upcoming, kept, late = kept[MOST], kept[:MOST], []
        decisions += [_run(timing, tick) for tick in [*kept, *late]]
    return Verdict(due=due, next_run_at=upcoming, decisions=_one_at_a_time(due, decisions))


@dataclass(frozen=True, slots=True)
class Span:
    """The ticks of one schedule from one instant to another, bounds included."""

    timing: cron.Timing
    start: datetime
    end: datetime

    def ticks(self, watermark: datetime) -> Iterator[datetime]:
        """Give them in order; the watermark counts as one if it is the start."""
        if self.start == watermark:
            yield self.start
        yield from (tick for tick in self.timing.ticks(self.start, self.end) if tick != watermark)

    def newest(self) -> datetime:
        """Give the last one; the start, which is a tick, if there is no other."""
        found = self.timing.prev_before(self.end + cron.MOMENT)
        return self.start if found is None or found < self.start else found

    def newest_to_run(self) -> datetime | None:
        """Give the last one outside all blackouts; looks at the newest MOST."""
        tick = self.newest()
        for _ in range(MOST):
            if self.timing.blackout(tick) is None:
                return tick
            earlier = self.timing.prev_before(tick)
            if tick == self.start or earlier is None:
                return None
            tick = max(earlier, self.start)
        return None

    def last(
        self, count: int, watermark: datetime, progressed: Callable[[], object]
    ) -> list[datetime]:
        """Give the newest `count` ticks, in order; looks from the end at stretches of few ticks, however they lie."""
        found = deque[datetime]()
        end, length = self.end, timedelta(seconds=STRETCH)
        while len(found) < count and end >= self.start:
            begin = max(self.start, end - length)
            ticks = Span(self.timing, begin, end).ticks(watermark)
            stretch = list(islice(ticks, STRETCH + 1))
            progressed()
            if len(stretch) > STRETCH:
                length /= 2
                continue
            found.extendleft(reversed(stretch[len(found) - count :]))
            end = begin - cron.MOMENT
            if len(stretch) < STRETCH // 4:
                length *= 2
        return list(found)

    def before(self, tick: datetime) -> "Span | None":
        """Give what of it lies before a tick; None if that is its first."""
        return Span(self.timing, self.start, tick - cron.MOMENT) if self.start < tick else None

    def after(self, tick: datetime) -> "Span | None":
        """Give what of it lies after a tick, from the next one on; None if there is none."""
        later = self.timing.next_after(tick)
        return None if later is None or later > self.end else Span(self.timing, later, self.end)

    def line(self, outcome: str, reason: str) -> list[Decision]:
        """Give the one decision that stands for all its ticks."""
        until = self.newest()
        if until == self.start:
            return [Decision(tick_at=self.start, outcome=outcome, reason=reason)]
        return [
            Decision(
                tick_at=self.start,
                until_at=until,
                ticks=self.count(),
                outcome=outcome,
                reason=reason,
            )
        ]

    def count(self) -> int | None:
        """Count its ticks, of which the start is one; None if that would take long."""
        later = self.timing.count(self.start + cron.MOMENT, self.end)
        return None if later is None else later + 1


def _newest(due: Due, owed: Span, now: datetime) -> list[Decision]:
    """Let the newest tick that may run make up for all; what is younger than GRACE is in any window."""
    newest = owed.newest_to_run()
    if newest is None:
        return owed.line("blackout", "its newest ticks were in blackouts")
    if newest < now - max(due.catchup_window, GRACE):
        return owed.line("skipped_window", f"older than its window of {due.catchup_window}")
    earlier, later = owed.before(newest), owed.after(newest)
    lines = (
        earlier.line("coalesced", f"coalesced into the run of {newest.isoformat()}")
        if earlier
        else []
    )
    barred = later.line("blackout", owed.timing.blackout(later.start) or "") if later else []
    return [*lines, _run(owed.timing, newest), *barred]


def _all(
    due: Due, missed: Span, now: datetime, progressed: Callable[[], object]
) -> tuple[list[Decision], list[datetime]]:
    """Give the lines of what is dropped, and the ticks that are kept, or the first of them if no more are needed."""
    window = Span(missed.timing, max(missed.start, now - due.catchup_window), missed.end)
    if (window.count() or math.inf) <= due.catchup_limit:
        kept = list(islice(window.ticks(due.next_run_at), MOST + 1))
    else:
        kept = window.last(due.catchup_limit, due.next_run_at, progressed)
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


def _run(timing: cron.Timing, tick: datetime) -> Decision:
    """Enqueue a tick, unless it lies in a blackout."""
    reason = timing.blackout(tick)
    return Decision(tick_at=tick, outcome="blackout" if reason else "enqueued", reason=reason)


def to_move(verdict: Verdict) -> dict[str, Any]:
    """Give the compare-and-set of one schedule as the statement takes it."""
    return {
        "id": verdict.due.id,
        "version": verdict.due.version,
        "updated_at": verdict.due.updated_at.isoformat(),
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
                "unique_period": unique and unique.period and str(unique.period),
            }
        )
    return rows


def tick_id(schedule_id: int, tick_at: datetime) -> str:
    """Name a tick for ever, the same in every process."""
    return str(uuid5(NAMESPACE, f"{schedule_id}/{tick_at.isoformat()}"))
