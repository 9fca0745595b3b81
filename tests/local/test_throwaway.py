"""The server of a test session: gone with the session, however that ends."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from quarterjack_local import throwaway
from quarterjack_local.postgres import Server
from quarterjack_local.privileges import command_line
from tests.conftest import binaries
from tests.waiting import until

OWNER = """
import pathlib, sys, time
from quarterjack_local import throwaway
with throwaway.server(bin_dir=pathlib.Path(sys.argv[1])) as server:
    print(server.data, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
async def test_it_ends_with_its_owner(end: signal.Signals | None) -> None:
    bin_dir = binaries()[0].path
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, bin_dir),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    data = Path((await owner.stdout.readline()).decode().strip())
    server = Server(data, bin_dir=bin_dir)
    pid = server.running()
    assert pid is not None

    if end is None:
        owner.stdin.close()
    else:
        owner.send_signal(end)
    await owner.wait()

    async def gone() -> bool:
        return not data.parent.exists() and not command_line(pid).strip()

    await until(gone, within=30)


def test_it_ends_when_its_start_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    start, pids = Server.start, list[int | None]()

    def interrupted(server: Server) -> str:
        start(server)
        pids.append(server.running())
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "start", interrupted)

    with pytest.raises(KeyboardInterrupt), throwaway.server(bin_dir=binaries()[0].path):
        pass

    [pid] = pids
    assert pid is not None
    assert not command_line(pid).strip()
