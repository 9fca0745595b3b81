"""Enqueue jobs, on a pool or inside the caller's own transaction."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg

from quarterjack.bell import ring
from quarterjack.database import Connection, Database, Pool, borrowed
from quarterjack.encoding import encode_object
from quarterjack.errors import JobInvalid
from quarterjack.following import NO_TIES, Ties, look, tie
from quarterjack.model import Enqueued
from quarterjack.new_job import NewJob, row_of
from quarterjack.queries import inserts, jobs, replacing
from quarterjack.queries.replacing import Replacement
from quarterjack.unique import Unique

log = logging.getLogger(__name__)

MANY = 500
"""As many rows are copied, which takes more round trips and less time for each."""
INSERTING: dict[int, int] = {}
"""How many insert through a pool at once, by its id."""
AGAIN = 5
"""So often is tried again what deadlocks: others may insert the same keys over and over."""


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


async def enqueue_many(db: Database, new: Iterable[NewJob]) -> list[Enqueued]:
    """Insert jobs in one statement per kind (plain, unique), all or none; results in their order."""
    wanted = list(new)
    for job in wanted:
        if not isinstance(job, NewJob):
            raise JobInvalid(f"{job!r:.60} is no job: make each by NewJob(worker=…), or new_job")
    return await enqueue_tied(db, wanted, NO_TIES)


async def enqueue_tied(db: Database, new: Sequence[NewJob], ties: Ties) -> list[Enqueued]:
    """Insert jobs that wait for each other, as `enqueue_many` does others."""
    if not new:
        return []
    if isinstance(db, asyncpg.Pool):
        return await _insert_among_others(db, new, ties)
    if db.is_in_transaction():
        return await _insert(db, new, ties, rings_itself=False)
    if _is_one(new, ties):
        return await _insert_one_and_ring(db, new)
    return await _insert_and_ring(db, new, ties, partial(jobs.ring, db))


async def _insert_among_others(pool: Pool, new: Sequence[NewJob], ties: Ties) -> list[Enqueued]:
    """Insert through a pool: who is alone rings with its insert, several at once ring for each other."""
    inserting = INSERTING[id(pool)] = INSERTING.get(id(pool), 0) + 1
    try:
        async with borrowed(pool) as connection:
            if inserting == 1 and _is_one(new, ties):
                return await _insert_one_and_ring(connection, new)
            return await _insert_and_ring(connection, new, ties, partial(ring, pool, connection))
    finally:
        if left := INSERTING.pop(id(pool)) - 1:
            INSERTING[id(pool)] = left


def _is_one(new: Sequence[NewJob], ties: Ties) -> bool:
    """Say if it is one plain job that is due."""
    [first, *more] = new
    return not (more or first.scheduled_at or first.unique or ties.waiting(new))


async def _insert_one_and_ring(connection: Connection, new: Sequence[NewJob]) -> list[Enqueued]:
    return [Enqueued(await inserts.insert_and_ring(connection, row_of(new[0])))]


async def _insert_and_ring(
    connection: Connection,
    new: Sequence[NewJob],
    ties: Ties,
    wake: Callable[[Set[str]], Awaitable[None]],
) -> list[Enqueued]:
    waiting = ties.waiting(new)
    results = await _insert_alone(connection, new, ties, tied=bool(waiting))
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


async def _insert_alone(
    connection: Connection, new: Sequence[NewJob], ties: Ties, *, tied: bool
) -> list[Enqueued]:
    """Insert in a transaction of its own, and again if it deadlocks with a unique insert of another period."""
    mixed = len({job.unique is None for job in new}) == 2
    replacing = any(job.unique is not None and job.unique.replace for job in new)
    left = AGAIN
    while True:
        try:
            if not (mixed or replacing or tied):
                return await _insert(connection, new, ties, rings_itself=True)
            async with connection.transaction():
                return await _insert(connection, new, ties, rings_itself=True)
        except asyncpg.DeadlockDetectedError:
            if not left:
                raise
            left -= 1


async def _insert(
    connection: Connection, new: Sequence[NewJob], ties: Ties, *, rings_itself: bool
) -> list[Enqueued]:
    rows = [row_of(job) for job in new]
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
    if plain and len(new) == 1:
        return [Enqueued(await inserts.insert_one(connection, rows[0], rings_itself=rings_itself))]
    if len(plain) == len(new):
        many = len(rows) >= MANY and not any(row["tags"] for row in rows)
        insert = inserts.copy if many else inserts.insert
        return list(map(Enqueued, await insert(connection, rows, rings_itself=rings_itself)))
    results: dict[int, Enqueued] = {}
    if plain:
        ids = await inserts.insert(
            connection, [rows[index] for index in plain], rings_itself=rings_itself
        )
        results |= {index: Enqueued(id=id) for index, id in zip(plain, ids, strict=True)}
    unique = [index for index, job in enumerate(new) if job.unique is not None]
    outcomes = await inserts.insert_unique(
        connection, [rows[index] for index in unique], rings_itself=rings_itself
    )
    results |= dict(zip(unique, outcomes, strict=True))
    replaced = await _replace(connection, new, rows, results)
    return [
        results[index]._replace(replaced=True) if index in replaced else results[index]
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
