"""Enqueue jobs, on a pool or inside the caller's own transaction."""

import json
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
from quarterjack.errors import JobInvalid
from quarterjack.model import Enqueued
from quarterjack.queries import jobs, replacing
from quarterjack.queries.replacing import Replacement
from quarterjack.unique import Unique

log = logging.getLogger(__name__)

NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MAX_MAX_ATTEMPTS = 32_767
DEEPEST = 200
LARGEST = 64_000_000
ROW = 500
ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to enqueue; any `scheduled_at`, even a past one, makes it `scheduled` as in Oban."""

    worker: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    scheduled_at: datetime | None = None
    priority: int = 0
    max_attempts: int = 20
    tags: Sequence[str] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    unique: Unique | None = None

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
) -> Enqueued:
    """Insert one job and wake its queue; say so if it conflicts with a unique one.

    On a connection inside a transaction the job commits, and rings, with that transaction. Raises
    JobInvalid before anything is sent.
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
    )
    [result] = await enqueue_many(db, [job])
    return result


async def enqueue_many(db: Database, new: Sequence[NewJob]) -> list[Enqueued]:
    """Insert jobs in one statement per kind (plain, unique), all or none; results in their order."""
    if not new:
        return []
    if isinstance(db, asyncpg.Pool):
        async with db.acquire() as connection:
            return await _insert_and_ring(connection, new, partial(ring, db, connection))
    if db.is_in_transaction():
        return await _insert(db, new, rings_itself=False)
    return await _insert_and_ring(db, new, partial(jobs.ring, db))


def weigh(job: NewJob) -> int:
    """Give about how many bytes a job sends to the database; JobInvalid if it cannot be stored."""
    row = _row(job)
    return len(row["args"]) + len(row["meta"]) + ROW


async def _insert_and_ring(
    connection: Connection, new: Sequence[NewJob], wake: Callable[[Set[str]], Awaitable[None]]
) -> list[Enqueued]:
    mixed = len({job.unique is None for job in new}) == 2
    if mixed or any(job.unique is not None and job.unique.replace for job in new):
        async with connection.transaction():
            results = await _insert(connection, new, rings_itself=True)
    else:
        results = await _insert(connection, new, rings_itself=True)
    queues = {
        job.queue
        for job, result in zip(new, results, strict=True)
        if job.scheduled_at is None and not result.conflict
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
    connection: Connection, new: Sequence[NewJob], *, rings_itself: bool
) -> list[Enqueued]:
    rows = [_row(job) for job in new]
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
    if "qj_unique" in job.meta:
        raise JobInvalid("meta holds qj_unique, which `unique` makes: give that instead")
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


def encode_object(name: str, value: Mapping[str, Any]) -> str:
    """Write a JSON object that Postgres and every Oban can store; JobInvalid says what cannot be."""
    if not isinstance(value, Mapping):
        raise JobInvalid(f"{name} is a {type(value).__name__}: give an object with text keys")
    if not value:
        return "{}"
    _check_shape(name, value)
    try:
        text = ENCODER.encode(dict(value))
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise JobInvalid(
            f"{name} holds half of a surrogate pair, which JSON cannot store"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise JobInvalid(f"{name} cannot be written as JSON: {str(error)[:200]}") from error
    if NUL.search(text):
        raise JobInvalid(f"{name} holds a NUL character, which Postgres cannot store")
    if size > LARGEST:
        raise JobInvalid(f"{name} has {size} bytes of JSON: at most 64 MB, so store a reference")
    return text


def _check_shape(name: str, value: object) -> None:
    """Refuse keys that JSON would turn into texts, and depths that a reader may not survive."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        below: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                if any(not isinstance(key, str) for key in each):
                    raise JobInvalid(f"{name} has a key that is not a text")
                below += each.values()
            elif isinstance(each, list | tuple):
                below += each
        level = [each for each in below if isinstance(each, Mapping | list | tuple)]
        if not level:
            return
    raise JobInvalid(f"{name} is nested deeper than {DEEPEST} levels")


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
