"""A real oban-py beside us, as tests see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import TestDatabase
from tests.interop.environment import oban_python

PROGRAM = Path(__file__).with_name("oban_node.py")
PATIENCE = 20.0
SERVING = {"queues": {"py": 5}, "leadership": False, "stager": {"interval": 60}}
"""It runs its queue, and looks for jobs by itself only once a minute: what it starts sooner, it was told of."""


@dataclass(slots=True)
class ObanPy:
    """Asks the node of oban-py; what it raises is raised here as RuntimeError."""

    process: asyncio.subprocess.Process

    async def ask(self, name: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
        answer = await self.read()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]

    async def read(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the node of oban-py has ended")
        return json.loads(line)


@asynccontextmanager
async def oban_py(database: TestDatabase, **options: Any) -> AsyncIterator[ObanPy]:
    """Start a node; `options` are those of Oban, by default a client that runs nothing."""
    python = await asyncio.to_thread(oban_python)
    process = await asyncio.create_subprocess_exec(
        *(python, PROGRAM, database.url, database.address.schema, json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    try:
        node = ObanPy(process)
        assert await node.read() == "ready"
        yield node
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
