"""For tests of code that enqueues: what is enqueued, and time that passes at once.

`quarterjack_worker.testing` runs what is enqueued.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from quarterjack.client import check_db
from quarterjack.database import Database
from quarterjack.model import Job
from quarterjack.queries import clock, testing

NEAR = timedelta(seconds=5)
SHOWN, LONGEST = 20, 1_000


async def enqueued(
    db: Database,
    worker: str | None = None,
    args: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    due: datetime | timedelta | None = None,
    near: timedelta = NEAR,
) -> list[Job]:
    """Give the waiting jobs that fit, oldest first: available, scheduled, suspended and retryable ones.

    `args` may name some of the job's args; what they hold is compared by `==`, so that a matcher such as
    `unittest.mock.ANY` fits too. `due` is an instant, or the time from now until the job is due; `near`
    is how far off it may be. What cannot fit anything, such as a handler in place of its name, is a TypeError: a test
    that refutes it would pass for ever.
    """
    check_db(db)
    _check(worker, args, due, near)
    at = await _instant(db, due)
    return [
        job
        for job in await testing.waiting(db)
        if worker in (None, job.worker)
        and queue in (None, job.queue)
        and (args is None or _fits(args, job.args))
        and (at is None or abs(job.scheduled_at - at) <= near)
    ]


async def assert_enqueued(
    db: Database,
    worker: str,
    args: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    due: datetime | timedelta | None = None,
    near: timedelta = NEAR,
) -> Job:
    """Give the oldest waiting job that fits, as `enqueued` says; AssertionError shows what waits instead."""
    found = await enqueued(db, worker, args, queue=queue, due=due, near=near)
    if not found:
        wanted = _wanted(worker, args, queue, due, near)
        raise AssertionError(f"not enqueued: {wanted}\n{_shown(await testing.waiting(db))}")
    return found[0]


async def refute_enqueued(
    db: Database,
    worker: str,
    args: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    due: datetime | timedelta | None = None,
    near: timedelta = NEAR,
) -> None:
    """Raise AssertionError if a waiting job fits, as `enqueued` says."""
    found = await enqueued(db, worker, args, queue=queue, due=due, near=near)
    if found:
        wanted = _wanted(worker, args, queue, due, near)
        raise AssertionError(f"enqueued, but should not be: {wanted}\n{_shown(found)}")


async def advance(db: Database, by: timedelta) -> None:
    """Let time pass for all jobs: a job due in an hour is due now after `advance(db, timedelta(hours=1))`.

    The database's clock decides what is due, so the rows move back instead: also those by which unique
    jobs and the age of ended ones are judged. What runs at the moment stays as it is.
    """
    check_db(db)
    if not isinstance(by, timedelta):
        raise TypeError(f"time is to pass by {by!r:.60}: give a timedelta")
    if by < timedelta(0):
        raise ValueError(f"time cannot go back by {-by}: advance by 0 or more")
    await testing.move_back(db, by)


def _check(worker: object, args: object, due: object, near: object) -> None:
    if worker is not None and not isinstance(worker, str):
        raise TypeError(f"worker is {worker!r:.60}: give the name of a job")
    if args is not None and not isinstance(args, Mapping):
        raise TypeError(f"args are {args!r:.60}: give a dict of those that matter")
    if due is not None and not isinstance(due, datetime | timedelta):
        raise TypeError(f"due is {due!r:.60}: give a datetime, or a timedelta from now")
    if not isinstance(near, timedelta):
        raise TypeError(f"near is {near!r:.60}: give a timedelta")


async def _instant(db: Database, due: datetime | timedelta | None) -> datetime | None:
    if isinstance(due, timedelta):
        return await clock.now(db) + due
    if due is not None and due.utcoffset() is None:
        raise ValueError(f"due is {due}, without a time zone: give an aware datetime")
    return due


def _fits(wanted: object, found: object) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and _fits(value, found[key]) for key, value in wanted.items()
        )
    return bool(wanted == found)


def _wanted(
    worker: str,
    args: Mapping[str, Any] | None,
    queue: str | None,
    due: datetime | timedelta | None,
    near: timedelta,
) -> str:
    parts = [worker]
    if args is not None:
        parts.append(f"with args {_cut(dict(args))}")
    if queue is not None:
        parts.append(f"in queue {queue}")
    if isinstance(due, timedelta):
        parts.append(f"due in {due} (± {near})")
    elif due is not None:
        parts.append(f"due at {due} (± {near})")
    return " ".join(parts)


def _shown(jobs: list[Job]) -> str:
    if not jobs:
        return "no job waits"
    lines = [
        f"  {job.id} {job.worker} with args {_cut(job.args)} in queue {job.queue}, {job.state} for {job.scheduled_at}"
        for job in jobs[:SHOWN]
    ]
    more = [f"  and {len(jobs) - SHOWN} more"] if len(jobs) > SHOWN else []
    return "\n".join(["what waits:", *lines, *more])


def _cut(args: object) -> str:
    text = str(args)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
