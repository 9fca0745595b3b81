"""The documentation names what there is, and its first examples run as they stand."""

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.documents import DOCS, write_files
from tests.processes import cluster
from tests.waiting import until

ROOT = DOCS.parent
ROOMS = ("shared", "services", "local", "benchmarks")
PRIVATE = {"WORKER_LIFE", "WORKER_TURNS", "WORKER_MARKS"}
"""What a worker says to its own child."""
SETTING = re.compile(r"\bQUARTERJACK_([A-Z_]+[A-Z])\b")


def settings(files: Sequence[Path]) -> set[str]:
    return {name for file in files for name in SETTING.findall(file.read_text(encoding="utf-8"))}


async def test_the_contract_lists_each_table(database: TestDatabase) -> None:
    page = (DOCS / "contract.md").read_text(encoding="utf-8")
    relations = await database.pool.fetch(
        "SELECT relname FROM pg_class WHERE relname LIKE 'qj\\_%' AND relkind IN ('r', 'v')"
    )

    assert [name for (name,) in relations if f"`{name}`" not in page] == []


def test_each_setting_is_documented_and_each_documented_one_is_read() -> None:
    sources = [file for top in ROOMS for file in (ROOT / top).rglob("*.py")]
    documented = settings([*DOCS.glob("*.md"), ROOT / "README.md"])
    read = settings(sources)
    read |= {f"KEEP_{state}" for state in ("COMPLETED", "CANCELLED", "DISCARDED")}

    assert read - PRIVATE - documented == set()
    assert {name for name in documented if name.removesuffix("_FILE") not in read} == set()


@pytest.mark.newest_postgres
async def test_the_first_job_of_the_readme_runs(database: TestDatabase, tmp_path: Path) -> None:
    assert write_files("../README.md", tmp_path) == ["my_jobs.py", "enqueue_report.py"]
    async with cluster(database) as services:
        path = {"PYTHONPATH": str(tmp_path)}
        await services.start(
            "w", "quarterjack_worker", "--import", "my_jobs", "--queue", "mail=10", env=path
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "enqueue_report.py"),
            cwd=tmp_path,
            env=os.environ | {"DATABASE_URL": database.url},
        )

        assert await process.wait() == 0
        await until(
            lambda: database.pool.fetchval(
                "SELECT EXISTS (SELECT FROM oban_jobs WHERE worker = 'send_report' AND state = 'completed')"
            ),
            within=30,
        )
