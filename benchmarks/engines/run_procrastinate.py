"""Procrastinate, on psycopg."""

import sys
import time

import common
from procrastinate import App, PsycopgConnector

CHUNK = 1000
app = App(connector=PsycopgConnector(conninfo=sys.argv[2], min_size=1, max_size=10))


@app.task(name="noop")
async def noop(at: float | None = None) -> None:
    common.ran(at)


async def make(_: str) -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def work(_: str, concurrency: int) -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=concurrency)


async def bulk(_: str, many: int) -> float:
    async with app.open_async():
        began = time.monotonic()
        for start in range(0, many, CHUNK):
            await noop.batch_defer_async(*({} for _ in range(min(CHUNK, many - start))))
        return time.monotonic() - began


async def singles(_: str, many: int, clients: int) -> float:
    async with app.open_async():
        return await common.singles(noop.defer_async, many, clients)


async def trickle(_: str, many: int) -> None:
    async with app.open_async():
        await common.trickle(lambda at: noop.defer_async(at=at), many)


common.run(make=make, work=work, bulk=bulk, singles=singles, trickle=trickle)
