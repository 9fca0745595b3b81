"""A node of the real oban-py, steered from a test: one JSON command per line in, one JSON answer per line out.

Runs in oban-py's environment, and imports nothing of ours.
"""

import asyncio
import json
import sys
from datetime import datetime
from typing import Any

from oban import Job, Oban, worker
from oban._notifier import decode_payload
from psycopg_pool import AsyncConnectionPool

SHOWN = (
    *("id", "state", "queue", "worker", "args", "meta", "tags", "errors", "attempt", "max_attempts"),
    *("priority", "attempted_by", "attempted_at", "scheduled_at", "completed_at", "discarded_at", "cancelled_at"),
)  # fmt: skip
CHANNELS = ("insert", "signal", "gossip", "metrics", "cronitor")


@worker(queue="py")
class Echo:
    """Completes."""

    async def process(self, job: Job) -> None: ...


@worker(queue="py", max_attempts=2)
class Fail:
    """Fails."""

    async def process(self, job: Job) -> None:
        raise ValueError(f"failed with {job.args}")


@worker(queue="py")
class Wait:
    """Runs until it is cancelled."""

    async def process(self, job: Job) -> None:
        while not job.cancelled():
            await asyncio.sleep(0.02)


class Node:
    """What a test may ask of it; a name that is none of these is a method of Oban itself."""

    def __init__(self, oban: Oban) -> None:
        self.oban = oban
        self.messages: list[list[Any]] = []

    async def listen(self) -> None:
        for channel in CHANNELS:
            await self.oban._notifier.listen(channel, self._receive)

    def _receive(self, channel: str, payload: dict[str, Any]) -> None:
        self.messages.append([channel, payload])

    async def insert(self, **fields: Any) -> Any:
        if at := fields.pop("scheduled_at", None):
            fields["scheduled_at"] = datetime.fromisoformat(at)
        return (await self.oban.enqueue(Job(**fields))).id

    async def get(self, id: int) -> dict[str, Any] | None:
        job = await self.oban.get_job(id)
        return None if job is None else {name: getattr(job, name) for name in SHOWN}

    async def heard(self) -> list[list[Any]]:
        return self.messages

    async def decode(self, payloads: list[str]) -> list[Any]:
        return [decode_payload(payload) for payload in payloads]

    async def check(self, queue: str) -> dict[str, Any] | None:
        info = self.oban.check_queue(queue)
        return info and {"limit": info.limit, "paused": info.paused, "running": info.running}

    async def rescue(self, after: float) -> None:
        await self.oban._query.rescue_jobs(after)

    async def signal(self, payload: dict[str, Any]) -> None:
        await self.oban._notifier.notify("signal", payload)

    async def leads(self) -> Any:
        return self.oban.is_leader


async def main(url: str, prefix: str, options: str) -> None:
    chosen = json.loads(options)
    async with (
        AsyncConnectionPool(url, min_size=2, max_size=5) as pool,
        Oban(pool=pool, prefix=prefix, node="py-1", **chosen) as oban,
    ):
        node = Node(oban)
        await node.listen()
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, arguments = json.loads(line)
            method = getattr(node, name, None) or getattr(oban, name)
            try:
                answer = {"answer": await method(**arguments)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
