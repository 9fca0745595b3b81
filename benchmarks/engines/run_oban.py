"""oban-py, on the same table as Quarterjack; uvloop and orjson are installed beside it."""

import time

import common
from oban import Oban, worker
from psycopg_pool import AsyncConnectionPool


@worker(queue="default")
class Noop:
    async def process(self, job) -> None:
        common.ran(job.args.get("at"))


async def work(url: str, limit: int) -> None:
    pool = AsyncConnectionPool(url, min_size=4, max_size=10, open=False)
    async with pool, Oban(pool=pool, queues={"default": limit}):
        await common.stopped()


async def bulk(url: str, many: int) -> float:
    async with AsyncConnectionPool(url, min_size=1, max_size=2) as pool:
        oban = Oban(pool=pool)
        began = time.monotonic()
        for start in range(0, many, 1000):
            await oban.enqueue_many(Noop.new({}) for _ in range(min(1000, many - start)))
        return time.monotonic() - began


async def singles(url: str, many: int, clients: int) -> float:
    async with AsyncConnectionPool(url, min_size=clients, max_size=clients) as pool:
        oban = Oban(pool=pool)
        return await common.singles(lambda: oban.enqueue(Noop.new({})), many, clients)


async def trickle(url: str, many: int) -> None:
    async with AsyncConnectionPool(url, min_size=1, max_size=2) as pool:
        oban = Oban(pool=pool)
        await common.trickle(lambda at: oban.enqueue(Noop.new({"at": at})), many)


common.run(work=work, bulk=bulk, singles=singles, trickle=trickle)
