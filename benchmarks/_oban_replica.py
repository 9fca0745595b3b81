"""A replica of oban-py for `peers`: five workers on `* * * * *` and nothing else. Runs in oban-py's environment."""

import asyncio
import sys

from oban import Oban, worker
from psycopg_pool import AsyncConnectionPool

for _ in range(5):

    @worker(queue="unworked", cron="* * * * *")
    class Every:
        async def process(self, job: object) -> None:
            """Nobody takes the queue."""


async def main(url: str, node: str) -> None:
    async with AsyncConnectionPool(url, min_size=2, max_size=5) as pool:
        oban = Oban(pool=pool, node=node, leadership=True, queues={"other": 1})
        await oban.start()
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:3]))
