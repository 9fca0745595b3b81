"""A transaction pooler before a database."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest

from tests.conftest import TestDatabase
from tests.processes import free_port
from tests.proxy import through
from tests.waiting import until

POOLER = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
auth_type = trust
auth_file = USERS
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
ignore_startup_parameters = search_path,extra_float_digits
unix_socket_dir =
"""


@asynccontextmanager
async def pooled(database: TestDatabase) -> AsyncIterator[str]:
    """Start one; the address that leads through it."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not os.access(program, os.X_OK):
        pytest.fail("pgbouncer is missing: apt-get install pgbouncer")
    parts, port = urlsplit(database.url), free_port()
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with TemporaryDirectory() as place:
        settings = _write(place, POOLER.format(host=parts.hostname, port=parts.port, own=port))
        pooler = await asyncio.create_subprocess_exec(
            *(as_nobody if os.geteuid() == 0 else ()), program, "--quiet", str(settings)
        )
        try:
            await until(lambda: _listens(port))
            yield through(database.url, port)
        finally:
            if pooler.returncode is None:
                pooler.terminate()
            await pooler.wait()


def _write(place: str, text: str) -> Path:
    """Write the settings where another user may read them."""
    os.chmod(place, 0o755)  # noqa: S103 - it holds nothing else
    settings, users = Path(place, "pgbouncer.ini"), Path(place, "users")
    settings.write_text(text.replace("USERS", str(users)))
    users.write_text('"postgres" ""\n')
    return settings


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
