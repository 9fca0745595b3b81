"""What is kept under .local: the server's data, the lock of a running `up`, and up.json."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quarterjack_local.privileges import command_line

LEFT_TO_END = 6.0


class Unusable(RuntimeError):
    """A directory or a port cannot be used; the message says what to choose instead."""


def directory() -> Path:
    """Give .local beside the checkout's top level, or QUARTERJACK_LOCAL."""
    path = Path(os.environ.get("QUARTERJACK_LOCAL") or ".local").absolute()
    try:
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
        (path / "up.lock").open("a").close()
    except OSError as error:
        raise Unusable(
            f"cannot write to {path} ({error.strerror}): set QUARTERJACK_LOCAL to a directory of yours"
        ) from error
    return path


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold the lock of a running `up`; False when another process holds it. It dies with its holder."""
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


def forget(path: Path) -> None:
    (path / "up.json").unlink(missing_ok=True)


def end_leftovers(path: Path) -> None:
    """End what a killed `up` left: its services were told to stop, so those that did not are killed."""
    left = read(path)
    deadline = time.monotonic() + LEFT_TO_END
    for process in left.get("processes", ()):
        pid = int(process["pid"])
        while _is_service(pid, process["role"], left["database_url"]):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            time.sleep(0.05)
    forget(path)


def _is_service(pid: int, role: str, database_url: str) -> bool:
    """A pid may have a new owner: ours names the module and carries the address of the database."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    ours = f"DATABASE_URL={database_url}".encode() in environment
    return ours and f" -m quarterjack_{role} " in command_line(pid)


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
    raise Unusable(f"no free port from {wanted} on: choose another with --port")
