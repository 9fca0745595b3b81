"""Enqueue jobs, on a pool or inside the caller's own transaction."""

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg

from quarterjack.bell import ring
from quarterjack.database import Connection, Database
from quarterjack.encoding import encode_object
from quarterjack.errors import JobInvalid
from quarterjack.following import NO_TIES, Ties, look, read_after, tie
from quarterjack.model import Enqueued
from quarterjack.queries import jobs, replacing
from quarterjack.queries.replacing import Replacement
from quarterjack.unique import Unique

log = logging.getLogger(__name__)

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MAX_MAX_ATTEMPTS = 32_767
ROW = 500
OURS = {
    "qj_unique": "`unique` makes it: give that instead",
    "qj_followed": "jobs that wait for this one make it: leave it out",
    "qj_workflow": "a Workflow makes it: leave it out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to enqueue; any `scheduled_at`, even a past one, makes it `scheduled` as in Oban.

    It waits, `suspended`, until the jobs of the ids in `after` have completed. If one of them is cancelled, discarded
    or deleted instead, it is cancelled, unless `even_if` names that.
    """

    worker: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    scheduled_at: datetime | None = None
    priority: int = 0
    max_attempts: int = 20
    tags: Sequence[str] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    unique: Unique | None = None
    after: Sequence[int] = ()
    even_if: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, value in (("worker", self.worker), ("queue", self.queue)):
            if not _is_text(value, longest=127) or not value:
                raise JobInvalid(f"{name} is {value!r:.60}: give a name of 1 to 127 characters")
        if type(self.priority) is not int or not 0 <= self.priority <= 9:
            raise JobInvalid(f"priority is {self.priority!r:.60}: give 0 (first) to 9 (last)")
        if type(self.max_attempts) is not int or not 0 < self.max_attempts <= MAX_MAX_ATTEMPTS:
            raise JobInvalid(
                f"max_attempts is {self.max_attempts!r:.60}: give 1 to {MAX_MAX_ATTEMPTS}"
            )
        if isinstance(self.tags, str) or not isinstance(self.tags, Collection):
            raise JobInvalid(f"tags are {self.tags!r:.60}: give a list of texts")
        if not all(_is_text(tag, longest=255) for tag in self.tags):
            raise JobInvalid("tags must be a list of texts of at most 255 characters each")
        if self.unique is not None and not isinstance(self.unique, Unique):
            raise JobInvalid(f"unique is {self.unique!r:.60}: give a Unique, or None")
        _check_time(self.scheduled_at)
        object.__setattr__(self, "after", read_after(self.after, self.even_if))
        if self.after and self.unique is not None:
            raise JobInvalid(
                "a unique job cannot wait for others, since it may turn out to be one that exists: "
                "give `after` or `unique`"
            )


async def enqueue(
    db: Database,
    worker: str,
    args: Mapping[str, Any] | None = None,
    *,
    queue: str = "default",
    scheduled_at: datetime | None = None,
    priority: int = 0,
    max_attempts: int = 20,
    tags: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
    unique: Unique | None = None,
    after: Sequence[int] = (),
    even_if: Sequence[str] = (),
) -> Enqueued:
    """Insert one job and wake its queue; say so if it conflicts with a unique one.

    On a connection inside a transaction the job commits, and rings, with that transaction. Raises JobInvalid before
    anything is sent, or if a job of `after` does not exist.
    """
    job = NewJob(
        worker=worker,
        args={} if args is None else args,
        queue=queue,
        scheduled_at=scheduled_at,
        priority=priority,
        max_attempts=max_attempts,
        tags=tags,
        meta={} if meta is None else meta,
        unique=unique,
        after=after,
        even_if=even_if,
    )
    [result] = await enqueue_many(db, [job])
    return result


async def enqueue_many(db: Database, new: Sequence[NewJob]) -> list[Enqueued]:
    """Insert jobs in one statement per kind (plain, unique), all or none; results in their order."""
    return await enqueue_tied(db, new, NO_TIES)


async def enqueue_tied(db: Database, new: Sequence[NewJob], ties: Ties) -> list[Enqueued]:
    """Insert jobs that wait for each other, as `enqueue_many` does others."""
    if not new:
        return []
    if isinstance(db, asyncpg.Pool):
        async with db.acquire() as connection:
            return await _insert_and_ring(connection, new, ties, partial(ring, db, connection))
    if db.is_in_transaction():
        return await _insert(db, new, ties, rings_itself=False)
    return await _insert_and_ring(db, new, ties, partial(jobs.ring, db))


def weigh(job: NewJob) -> int:
    """Give about how many bytes a job sends to the database; JobInvalid if it cannot be stored."""
    row = _row(job)
    return len(row["args"]) + len(row["meta"]) + ROW


async def _insert_and_ring(
    connection: Connection,
    new: Sequence[NewJob],
    ties: Ties,
    wake: Callable[[Set[str]], Awaitable[None]],
) -> list[Enqueued]:
    mixed = len({job.unique is None for job in new}) == 2
    waiting = ties.waiting(new)
    if mixed or waiting or any(job.unique is not None and job.unique.replace for job in new):
        async with connection.transaction():
            results = await _insert(connection, new, ties, rings_itself=True)
    else:
        results = await _insert(connection, new, ties, rings_itself=True)
    queues = {
        job.queue
        for place, (job, result) in enumerate(zip(new, results, strict=True))
        if job.scheduled_at is None and not result.conflict and place not in waiting
    }
    if queues:
        try:
            await wake(queues)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning(
                "could not wake %s: %s; its workers will poll", ", ".join(sorted(queues)), error
            )
    return results


async def _insert(
    connection: Connection, new: Sequence[NewJob], ties: Ties, *, rings_itself: bool
) -> list[Enqueued]:
    rows = [_row(job) for job in new]
    if not (waiting := ties.waiting(new)):
        return await _insert_rows(connection, new, rows, rings_itself=rings_itself)
    for place, row in enumerate(rows):
        row["state"] = "suspended" if place in waiting else row["state"]
        if mark := ties.marks.get(place):
            row["meta"] = encode_object("meta", {**new[place].meta, **mark})
    looks = await look(connection, new, ties)
    results = await _insert_rows(connection, new, rows, rings_itself=rings_itself)
    await tie(connection, new, results, ties, looks)
    return results


async def _insert_rows(
    connection: Connection,
    new: Sequence[NewJob],
    rows: Sequence[dict[str, Any]],
    *,
    rings_itself: bool,
) -> list[Enqueued]:
    plain = [index for index, job in enumerate(new) if job.unique is None]
    if len(plain) == len(new):
        ids = await jobs.insert(connection, rows, rings_itself=rings_itself)
        return [Enqueued(id=id) for id in ids]
    results: dict[int, Enqueued] = {}
    if plain:
        ids = await jobs.insert(
            connection, [rows[index] for index in plain], rings_itself=rings_itself
        )
        results |= {index: Enqueued(id=id) for index, id in zip(plain, ids, strict=True)}
    unique = [index for index, job in enumerate(new) if job.unique is not None]
    outcomes = await jobs.insert_unique(
        connection, [rows[index] for index in unique], rings_itself=rings_itself
    )
    results |= dict(zip(unique, outcomes, strict=True))
    replaced = await _replace(connection, new, rows, results)
    return [
        replace(results[index], replaced=True) if index in replaced else results[index]
        for index in range(len(new))
    ]


async def _replace(
    connection: Connection,
    new: Sequence[NewJob],
    rows: Sequence[dict[str, Any]],
    results: Mapping[int, Enqueued],
) -> set[int]:
    """Let inserts replace what they conflict with, the last of several; the places of those that did."""
    wanted: dict[int, tuple[int, Replacement]] = {}
    for index, job in enumerate(new):
        id = results[index].id
        if job.unique is None or not job.unique.replace or not results[index].conflict or not id:
            continue
        row = rows[index]
        wanted[id] = (
            index,
            Replacement(
                id=id,
                key=row["key"],
                fields=job.unique.replace,
                args=row["args"],
                scheduled_at=row["scheduled_at"],
                priority=job.priority,
                max_attempts=job.max_attempts,
                tags=row["tags"],
            ),
        )
    if not wanted:
        return set()
    done = await replacing.replace(connection, [each for _, each in wanted.values()])
    return {index for id, (index, _) in wanted.items() if id in done}


def _row(job: NewJob) -> dict[str, Any]:
    for name, why in OURS.items():
        if name in job.meta:
            raise JobInvalid(f"meta holds {name}; {why}")
    row: dict[str, Any] = {
        "worker": job.worker,
        "queue": job.queue,
        "state": "available" if job.scheduled_at is None else "scheduled",
        "scheduled_at": None if job.scheduled_at is None else job.scheduled_at.astimezone(UTC),
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "tags": _normal_tags(job.tags),
        "args": encode_object("args", job.args),
        "meta": encode_object("meta", job.meta),
    }
    if job.unique is not None:
        key = job.unique.key(worker=job.worker, queue=job.queue, args=job.args)
        row |= {
            "meta": encode_object("meta", {**job.meta, "qj_unique": key}),
            "key": key,
            "states": job.unique.blocking_states(),
            "period": None if job.unique.period is None else job.unique.period.total_seconds(),
        }
    return row


def _normal_tags(tags: Sequence[str]) -> list[str]:
    """Trim, lower, drop empty and repeated ones, as Oban does."""
    return list(dict.fromkeys(tag.strip().lower() for tag in tags if tag.strip()))


def _is_text(value: object, *, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and not UNSTORABLE.search(value)


def _check_time(at: object) -> None:
    if at is None:
        return
    if not isinstance(at, datetime):
        raise JobInvalid(f"scheduled_at is {at!r:.60}: give an aware datetime")
    try:
        if at.utcoffset() is None:
            raise JobInvalid("scheduled_at has no time zone: give an aware datetime")
        at.astimezone(UTC)
    except OverflowError as error:
        raise JobInvalid(f"scheduled_at is {at}: out of the years 1 to 9999 in UTC") from error
