"""Insert the rows of new jobs, each kind as is cheapest."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import asyncpg

from quarterjack.database import Connection
from quarterjack.following import NO_TIES, Ties, look, tie
from quarterjack.model import Enqueued, Row
from quarterjack.queries import inserts, jobs, replacing
from quarterjack.queries.replacing import Replacement

log = logging.getLogger(__name__)

MANY = 500
"""As many rows are copied, which takes more round trips and less time for each."""
CHUNK = 5_000
"""So many are copied while the next are made."""
SLICE = 100
"""So many are made at a time before the loop may do something else."""
AGAIN = 5
"""So often is tried again what deadlocks: others may insert the same keys over and over."""


async def insert_and_ring(
    connection: Connection, rows: list[Row], ties: Ties, more: Iterator[Row] | None = None
) -> list[Enqueued]:
    """Insert rows, and more of them, in a transaction of its own, and wake the queues of those that are due."""
    if len(rows) < MANY and are_plain(rows):
        return await insert_some_and_ring(connection, rows)
    if more is None:
        results = await _insert_alone(connection, rows, ties)
        queues = _due(rows, results)
    else:
        results, queues = await _insert_in_chunks(connection, rows, more)
    if queues:
        try:
            await jobs.ring(connection, queues)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning(
                "could not wake %s: %s; its workers will poll", ", ".join(sorted(queues)), error
            )
    return results


async def insert_some_and_ring(connection: Connection, rows: Sequence[Row]) -> list[Enqueued]:
    """Insert plain rows, all or none, and wake their queues, in one round trip."""
    if len(rows) == 1 and rows[0]["state"] == "available":
        return [Enqueued(await inserts.insert_and_ring(connection, rows[0]))]
    return list(map(Enqueued, await inserts.insert_many_and_ring(connection, rows)))


def _due(rows: Sequence[Row], results: Sequence[Enqueued]) -> set[str]:
    """Give the queues of the jobs that are new and may run at once."""
    return {
        row["queue"]
        for row, result in zip(rows, results, strict=True)
        if row["state"] == "available" and not result.conflict
    }


async def _insert_in_chunks(
    connection: Connection, rows: list[Row], more: Iterator[Row]
) -> tuple[list[Enqueued], set[str]]:
    """Insert a chunk while the next is made, in one transaction; give also the queues of those that are due.

    From the first chunk on that is not plain, the rest is one.
    """
    results: list[Enqueued] = []
    queues: set[str] = set()
    async with connection.transaction():
        while rows:
            if not are_plain(rows):
                rows += more
            inserting = asyncio.ensure_future(_insert_alone(connection, rows, NO_TIES))
            try:
                following = await _make_chunk(more)
            finally:
                inserted = await inserting
            results += inserted
            queues |= _due(rows, inserted)
            rows = following
    return results, queues


async def _make_chunk(more: Iterator[Row]) -> list[Row]:
    """Make the next rows, and let the loop send those before in between."""
    rows: list[Row] = []
    while len(rows) < CHUNK and (made := list(islice(more, SLICE))):
        rows += made
        await asyncio.sleep(0)
    return rows


async def _insert_alone(connection: Connection, rows: Sequence[Row], ties: Ties) -> list[Enqueued]:
    """Insert in a transaction of its own, and again if it deadlocks with a unique insert of another period."""
    unique = all("key" in row and not row["replace"] for row in rows)
    one_statement = are_plain(rows) or (unique and not connection.is_in_transaction())
    left = AGAIN
    while True:
        try:
            if one_statement:
                return await insert(connection, rows, ties, rings_itself=True)
            async with connection.transaction():
                return await insert(connection, rows, ties, rings_itself=True)
        except asyncpg.DeadlockDetectedError:
            if not left:
                raise
            left -= 1


async def insert(
    connection: Connection, rows: Sequence[Row], ties: Ties, *, rings_itself: bool
) -> list[Enqueued]:
    """Insert rows, and what some wait for; `rings_itself` if the triggers need wake nobody."""
    if not _wait(rows):
        return await _insert_rows(connection, rows, rings_itself=rings_itself)
    looks = await look(connection, rows, ties)
    results = await _insert_rows(connection, rows, rings_itself=rings_itself)
    await tie(connection, rows, results, ties, looks)
    return results


def _wait(rows: Sequence[Row]) -> bool:
    return any(row["state"] == "suspended" for row in rows)


def are_plain(rows: Sequence[Row]) -> bool:
    """Say if none is unique, or waits for others."""
    return not any("key" in row or row["state"] == "suspended" for row in rows)


async def _insert_rows(
    connection: Connection, rows: Sequence[Row], *, rings_itself: bool
) -> list[Enqueued]:
    if not any("key" in row for row in rows):
        if len(rows) == 1:
            id = await inserts.insert_one(connection, rows[0], rings_itself=rings_itself)
            return [Enqueued(id)]
        insert = inserts.insert if len(rows) < MANY else inserts.copy
        return list(map(Enqueued, await insert(connection, rows, rings_itself=rings_itself)))
    results: dict[int, Enqueued] = {}
    plain = [index for index, row in enumerate(rows) if "key" not in row]
    if plain:
        ids = await inserts.insert(
            connection, [rows[index] for index in plain], rings_itself=rings_itself
        )
        results |= {index: Enqueued(id=id) for index, id in zip(plain, ids, strict=True)}
    unique = [index for index, row in enumerate(rows) if "key" in row]
    outcomes = await inserts.insert_unique(
        connection, [rows[index] for index in unique], rings_itself=rings_itself
    )
    results |= dict(zip(unique, outcomes, strict=True))
    replaced = await _replace(connection, rows, results)
    return [
        results[index]._replace(replaced=True) if index in replaced else results[index]
        for index in range(len(rows))
    ]


async def _replace(
    connection: Connection, rows: Sequence[Row], results: Mapping[int, Enqueued]
) -> set[int]:
    """Let inserts replace what they conflict with, the last of several; the places of those that did."""
    wanted: dict[int, tuple[int, Replacement]] = {}
    for index, row in enumerate(rows):
        id = results[index].id
        if not row.get("replace") or not results[index].conflict or not id:
            continue
        wanted[id] = (
            index,
            Replacement(
                id=id,
                key=row["key"],
                fields=row["replace"],
                args=row["args"],
                scheduled_at=row["scheduled_at"],
                priority=row["priority"],
                max_attempts=row["max_attempts"],
                tags=row["tags"],
            ),
        )
    if not wanted:
        return set()
    done = await replacing.replace(connection, [each for _, each in wanted.values()])
    return {index for id, (index, _) in wanted.items() if id in done}
