"""oban-py in an environment of its own: it needs a newer Python than we do, and drivers that we do not use."""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools"
LOCK = Path(__file__).with_name("oban_py.lock")
NEWER = [f"python3.{minor}" for minor in (14, 13, 12)]


@functools.cache
def oban_python() -> Path:
    """Give the Python that has oban-py, installed from the lock when it is first asked for.

    LookupError if it cannot be installed.
    """
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    place = TOOLS / "oban-py"
    stamp, python = place / "installed", place / "bin" / "python"
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "oban-py.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            _uv("venv", "--python", str(newer_python()), str(place))
            _uv("pip", "sync", "--require-hashes", "--python", str(python), str(LOCK))
            stamp.write_text(wanted)
    return python


def install_sql(schema: str) -> str:
    """Give what oban-py runs to make its tables, on a connection that works in the schema."""
    program = "import sys; from oban.schema import install_sql; print(install_sql(sys.argv[1]))"
    command = [str(oban_python()), "-c", program, schema]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@functools.cache
def newer_python() -> str | None:
    """Find a Python of 3.12 or later that works, also beside our own; pyenv has shims of versions that do not."""
    beside = [Path(sys.base_prefix).parent, Path.home() / ".pyenv" / "versions"]
    installed = [str(path) for name in NEWER for at in beside for path in at.glob(f"*/bin/{name}")]
    for candidate in (sys.executable, *filter(None, map(shutil.which, NEWER)), *installed):
        check = "import sys; sys.exit(sys.version_info < (3, 12))"
        if subprocess.run([candidate, "-c", check], capture_output=True).returncode == 0:
            return candidate
    return None


def _uv(*arguments: str) -> None:
    program = next(TOOLS.glob("uv-*/bin/uv"), None) or shutil.which("uv")
    if program is None:
        raise LookupError("uv is missing, which installs oban-py: run the tests by ./dev test")
    done = subprocess.run(
        [program, *arguments, "--quiet"],
        env=os.environ | {"UV_SYSTEM_CERTS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LookupError(f"oban-py cannot be installed:\n{done.stderr.strip()}")
