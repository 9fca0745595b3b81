"""Clocks that are wrong, and are set while a process looks at them: by a library of ours that it loads first.

libfaketime also shifts the waits of a process, so that threads of Python that wait for each other stood still.
"""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("wrong_clock.c")


class WrongClock:
    """What `env` gives a process makes its clock the true one and `ahead`, which may be changed at any time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.env = {"LD_PRELOAD": str(_library()), "WRONG_CLOCK": str(file)}
        self.set(0.0)

    def set(self, ahead: float) -> None:
        """Step to so many seconds before or after the true time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead:+.3f}")
        fresh.rename(self._file)


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="quarterjack-clock-")


@cache
def _library() -> Path:
    if not shutil.which("gcc"):
        pytest.fail("gcc is missing: apt-get install gcc libc6-dev")
    made = Path(_directory().name, "wrong_clock.so")
    flags = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", str(made), str(SOURCE)], check=True)
    made.parent.chmod(0o755)  # Postgres runs as a user of its own
    return made
