"""Postgres refuses to run as root: how to run it all the same, and how to know its processes again."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

IN_NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


class PostgresFailed(RuntimeError):
    """The embedded Postgres cannot be found, made or started; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How to run Postgres's programs: through a prefix, from a directory, as a user."""

    bin_dir: Path
    prefix: tuple[str, ...] = ()
    user: str | None = None

    @property
    def group(self) -> int | None:
        return pwd.getpwnam(self.user).pw_gid if self.user else None


@cache
def way_to_run(bin_dir: Path) -> Way:
    """Run as ourselves; as root in a user namespace, where files stay root's; else as nobody."""
    if os.geteuid() != 0:
        return Way(bin_dir=bin_dir)
    if shutil.which("unshare"):
        tried = subprocess.run([*IN_NAMESPACE, "true"], capture_output=True)
        if tried.returncode == 0:
            return Way(bin_dir=bin_dir, prefix=IN_NAMESPACE)
    return Way(bin_dir=bin_dir if _closed(bin_dir) is None else _copy(bin_dir), user="nobody")


def refuse_closed(directory: Path, way: Way) -> None:
    """Say which parent of the directory keeps the user out."""
    if way.user and (parent := _closed(directory)):
        raise PostgresFailed(
            f"{parent} is closed to the user {way.user}, and user namespaces are forbidden here: "
            "run as an ordinary user, or set QUARTERJACK_LOCAL to a directory that others may enter"
        )


def _closed(path: Path) -> Path | None:
    return next((each for each in path.parents if not each.stat().st_mode & 0o001), None)


def _copy(bin_dir: Path) -> Path:
    """Copy the wheel out of a closed home; never trust a copy that somebody else left there."""
    installation = bin_dir.parent
    package = installation.parent
    copy = Path(tempfile.gettempdir()) / f"quarterjack-postgres-{installation.name}"
    copied = Path(package.name, installation.name, bin_dir.name)
    if copy.is_dir() and not copy.is_symlink() and copy.stat().st_uid == os.geteuid():
        return copy / copied
    fresh = Path(tempfile.mkdtemp(prefix=f"{copy.name}-"))
    shutil.copytree(installation, fresh / copied.parent)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, fresh / libraries.name)
    fresh.chmod(0o755)
    return (fresh if copy.exists() or copy.is_symlink() else fresh.rename(copy)) / copied


def command_line(pid: int) -> str:
    """Give the words of a process, joined by blanks; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        if Path("/proc/self").exists():
            return ""
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return f"{shown.stdout.strip()} "


def orphans_of(data: Path) -> Iterator[int]:
    """Give the server processes that outlived their postmaster; each works inside its data directory."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = (process / "cwd").readlink() == data
        except OSError:
            continue
        if inside and command_line(int(process.name)).startswith("postgres: "):
            yield int(process.name)
