"""PgQueuer: a worker on uvloop; batch 10 is its default, larger batches are given as its concurrency."""

import asyncio
import time

import asyncpg
import common
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

CHUNK = 1000


async def make(url: str) -> None:
    await Queries(AsyncpgDriver(await asyncpg.connect(url))).install()


async def work(url: str, batch: int) -> None:
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

    @pgq.entrypoint("noop")
    async def noop(job) -> None:
        common.ran(float(job.payload) if job.payload else None)

    running = asyncio.create_task(pgq.run(batch_size=batch))
    await common.stopped()
    pgq.shutdown.set()
    await asyncio.wait([running], timeout=5)


async def bulk(url: str, many: int) -> float:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    began = time.monotonic()
    for start in range(0, many, CHUNK):
        size = min(CHUNK, many - start)
        await queries.enqueue(["noop"] * size, [None] * size, [0] * size)
    return time.monotonic() - began


async def singles(url: str, many: int, clients: int) -> float:
    async with asyncpg.create_pool(url, min_size=clients, max_size=clients) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        return await common.singles(lambda: queries.enqueue("noop", None), many, clients)


async def trickle(url: str, many: int) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    await common.trickle(lambda at: queries.enqueue("noop", str(at).encode()), many)


common.run(make=make, work=work, bulk=bulk, singles=singles, trickle=trickle)
