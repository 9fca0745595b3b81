"""Enqueue jobs, on a pool or inside the caller's own transaction."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from quarterjack.database import Database, borrowed
from quarterjack.errors import JobInvalid
from quarterjack.following import NO_TIES, Ties
from quarterjack.group_commit import insert_together
from quarterjack.inserting import CHUNK, MANY, are_plain, insert, insert_and_ring
from quarterjack.model import Enqueued, Row
from quarterjack.new_job import NewJob, row_of
from quarterjack.open_pool import OpenPool
from quarterjack.unique import Unique


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
    after: Sequence[int | None] = (),
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
    """Insert jobs, all or none; results in their order.

    Up to some thousands take one statement for each kind, plain and unique. Of more, some are inserted while the next
    are taken from `new`, so that a generator need not be held whole; in a transaction of the caller's, all are taken
    before anything is sent.
    """
    check_db(db)
    rows = map(_checked, new)
    whole = not isinstance(db, asyncpg.Pool) and db.is_in_transaction()
    first = list(rows if whole else islice(rows, CHUNK))
    return await _enqueue(db, first, NO_TIES, rows if len(first) == CHUNK else None)


async def enqueue_tied(db: Database, new: Sequence[NewJob], ties: Ties) -> list[Enqueued]:
    """Insert jobs that wait for each other, as `enqueue_many` does others."""
    check_db(db)
    rows = [row_of(job, ties.marks.get(place)) for place, job in enumerate(new)]
    for link in ties.links:
        rows[link.child]["state"] = "suspended"
    return await _enqueue(db, rows, ties)


def check_db(db: object) -> None:
    """Refuse what is no database, what belongs to another event loop, and may wait for ever, or to another process."""
    if not isinstance(db, asyncpg.Pool | asyncpg.Connection | PoolConnectionProxy):
        raise TypeError(
            f"{type(db).__name__} is no pool and no connection: give one of quarterjack.open_pool"
        )
    if isinstance(db, OpenPool) and db.opened_by != os.getpid():
        raise RuntimeError(
            "this pool was opened before the process forked, which would have to share its connections: open one after "
            "the fork, as in the lifespan of an application"
        )
    if getattr(db, "_loop", None) not in (None, asyncio.get_running_loop()):
        raise RuntimeError(
            "this pool belongs to another event loop: open one on the loop that uses it, or hand the call to its own "
            "by asyncio.run_coroutine_threadsafe; a test can take `quarterjack_address` and open one"
        )


def _checked(job: NewJob) -> Row:
    if not isinstance(job, NewJob):
        raise JobInvalid(f"{job!r:.60} is no job: make each by NewJob(worker=…), or new_job")
    return row_of(job)


async def _enqueue(
    db: Database, rows: list[Row], ties: Ties, more: Iterator[Row] | None = None
) -> list[Enqueued]:
    if not rows:
        return []
    if not isinstance(db, asyncpg.Pool):
        if db.is_in_transaction():
            return await insert(db, rows, ties, rings_itself=False)
        return await insert_and_ring(db, rows, ties, more)
    if len(rows) < MANY and are_plain(rows):
        return await insert_together(db, rows)
    async with borrowed(db) as connection:
        return await insert_and_ring(connection, rows, ties, more)
