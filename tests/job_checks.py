"""What must be true of the executions of jobs, from what handlers wrote down and from the tables.

C6  two executions of one job overlap only if the first one's worker had been declared dead before the second
C7  what was done by a worker that nobody had declared dead is never executed again
C9  each completed transactional job has its one row, and no other job has any
C11 a hint too many, too few or broken changes nothing of this: the same checks after NOTIFY was tampered with

C5 and C8 are `tests.checks.check_steps` and the wait for the last job.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt as its handler saw it, in seconds since the epoch; one that nobody ended has no `end`."""

    job_id: int
    producer: str
    begin: float
    end: float | None
    outcome: str | None


def check_executions(executions: Iterable[Execution], deaths: Mapping[str, float]) -> None:
    """C6 and C7; `deaths` says when a producer was declared dead.

    A process that is stopped between the last look at the clock and the first line of a handler begins that one job
    when it goes on, however dead it was declared meanwhile. It begins no second one.
    """
    of_job: defaultdict[int, list[Execution]] = defaultdict(list)
    for execution in sorted(executions, key=lambda each: each.begin):
        of_job[execution.job_id].append(execution)
    caught = Counter[str]()
    for several in of_job.values():
        for first, second in combinations(several, 2):
            if deaths.get(first.producer, second.begin) < second.begin:
                continue
            ended = first.end is not None and first.end <= second.begin
            assert ended, f"two run at once: {first}, {second}"
            condemned = deaths.get(second.producer, second.begin) < second.begin
            caught[second.producer] += condemned
            excused = condemned and caught[second.producer] == 1
            assert excused or first.outcome != "done", f"done, and run again: {first}, {second}"


def check_effects(rows: Sequence[int], completed: Collection[int]) -> None:
    """C9: a row for each job id that its transaction wrote, and the ids that are completed."""
    counted = Counter(rows)
    wrong = {id: number for id, number in counted.items() if number > 1 or id not in completed}
    assert not wrong, f"rows doubled, or of jobs that are not completed: {wrong}"
    missing = set(completed) - set(counted)
    assert not missing, f"completed without their row: {sorted(missing)[:3]}"
