"""Quarterjack's client, for the benchmark; its worker runs as it is deployed."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import common

from quarterjack.client import enqueue, enqueue_many
from quarterjack.database import Address, open_pool
from quarterjack.new_job import NewJob


def pool(url: str, size: int):
    return open_pool(Address(url=url, direct_url=url, schema="public"), name="client", size=size)


async def bulk(url: str, many: int) -> float:
    async with pool(url, 2) as db:
        began = time.monotonic()
        await enqueue_many(db, (NewJob(worker="noop") for _ in range(many)))
        return time.monotonic() - began


async def singles(url: str, many: int, clients: int) -> float:
    async with pool(url, clients) as db:
        return await common.singles(lambda: enqueue(db, "noop"), many, clients)


async def silent(url: str, many: int, clients: int) -> float:
    """Insert jobs for another day, which wake nobody: what waking costs is the difference."""
    day = datetime.now(UTC) + timedelta(days=1)
    async with pool(url, clients) as db:
        return await common.singles(lambda: enqueue(db, "noop", scheduled_at=day), many, clients)


async def trickle(url: str, many: int) -> None:
    async with pool(url, 2) as db:
        await common.trickle(lambda at: enqueue(db, "noop", {"at": at}), many)


async def later(url: str, many: int) -> None:
    """Schedule jobs at uneven instants, each of which says how late it began."""
    async with pool(url, 2) as db:
        first = datetime.now(UTC) + timedelta(seconds=3)
        due = [first + timedelta(seconds=0.0937 * number) for number in range(many)]
        jobs = [NewJob(worker="noop", args={"at": at.timestamp()}, scheduled_at=at) for at in due]
        await enqueue_many(db, jobs)
        await asyncio.sleep((due[-1] - datetime.now(UTC)).total_seconds() + 0.5)


common.run(bulk=bulk, singles=singles, silent=silent, trickle=trickle, later=later)
