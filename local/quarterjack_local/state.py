"""What is kept under .local: the server's data, the lock of a running `up`, and up.json."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


def directory() -> Path:
    """Give .local beside the checkout's top level, or QUARTERJACK_LOCAL."""
    own = os.environ.get("QUARTERJACK_LOCAL")
    path = Path(own) if own else Path.cwd() / ".local"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold the lock of a running `up`; False when another process holds it. It dies with its holder."""
    file: TextIO
    with (path / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace up.json at once; only the owner may read it, for it holds a sign-in link."""
    fresh = path / "up.json.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
    fresh.replace(path / "up.json")


def read(path: Path) -> dict[str, Any]:
    """Read up.json; empty if there is none."""
    try:
        content = json.loads((path / "up.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def choose_port(wanted: int) -> int:
    """Give the port, or the next free one."""
    for port in range(wanted, min(wanted + 200, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit(f"no free port from {wanted} on: choose another with --port")
