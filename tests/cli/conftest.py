"""The command as people run it, on a database of its own."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import TestDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """An exit code, and what was written."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Runs `quarterjack schedules ...` in a folder of its own."""

    directory: Path
    url: str = "postgresql://nobody@127.0.0.1:1/none"

    def write(self, name: str, content: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    async def run(self, *arguments: str, stdin: str = "") -> Ran:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "quarterjack.cli", "schedules", *arguments),
            cwd=self.directory,
            env={**os.environ, "DATABASE_URL": self.url, "PYTHONUTF8": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
        ran = Ran(code=process.returncode or 0, out=out.decode(), err=err.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

    async def apply(self, content: str, *options: str, name: str = "deploy.yaml") -> Ran:
        return await self.run("apply", self.write(name, content), *options)


@pytest.fixture
def offline(tmp_path: Path) -> Command:
    return Command(directory=tmp_path)


@pytest.fixture
def command(database: TestDatabase, tmp_path: Path) -> Command:
    return Command(directory=tmp_path, url=database.url)
