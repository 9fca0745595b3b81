"""Databases for tests: one migrated template on a server, and a copy of it for each test."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from quarterjack import Address, migrate
from quarterjack.queries import databases
from quarterjack_local.postgres import Server

TEMPLATE = "template_quarterjack"
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "256MB",
}
"""What makes a server faster whose data may be lost, and bounds its log."""
MEMORY, ENOUGH = Path("/dev/shm"), 2**31  # noqa: S108 - a directory with a name of its own is made there


@contextmanager
def server(
    *, bin_dir: Path | None = None, settings: Mapping[str, str] = SETTINGS
) -> Iterator[Server]:
    """Run a server that ends with this process at the latest, and whose data goes with it.

    It is in memory, if there is room, where it makes databases ten times as fast.
    """
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH
    with tempfile.TemporaryDirectory(prefix="quarterjack-", dir=MEMORY if roomy else None) as place:
        started = Server(Path(place) / "data", bin_dir=bin_dir, settings=settings)
        with _kept(Path(place), started):
            try:
                started.start()
                yield started
            finally:
                started.stop("immediate")


@contextmanager
def _kept(place: Path, kept: Server) -> Iterator[None]:
    """Have the server end with this process also if that is killed, as editors and CI do."""
    keeper = subprocess.Popen(
        [sys.executable, "-m", "quarterjack_local.keeper", place, kept.bin_dir],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        keeper.kill()
        keeper.communicate()


async def make_template(server: Server) -> None:
    """Make the migrated database that `database` copies."""
    await databases.create(server.url("postgres"), TEMPLATE)
    await migrate.apply(_address(server, TEMPLATE), optional=migrate.OPTIONAL)


@asynccontextmanager
async def database(server: Server, *, template: str = TEMPLATE) -> AsyncIterator[Address]:
    """Give a database of its own, and drop it at the end with whoever is still connected."""
    name = f"test_{uuid4().hex[:12]}"
    await databases.copy(server.url("postgres"), name, template=template)
    try:
        yield _address(server, name)
    finally:
        await databases.drop(server.url("postgres"), name)


def _address(server: Server, name: str) -> Address:
    url = server.url(name)
    return Address(url=url, direct_url=url, schema="public")
