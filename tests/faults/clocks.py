"""Clocks that are wrong, and are set while a process looks at them: libfaketime with a file of its own."""

from pathlib import Path

import pytest

LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1")


class WrongClock:
    """What `env` gives a process makes its clock the true one and `ahead`, which may be changed at any time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.env = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0.0)

    def set(self, ahead: float) -> None:
        """Step to so many seconds before or after the true time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead:+.3f}")
        fresh.rename(self._file)


def _library() -> str:
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]
    if not found:
        pytest.fail("libfaketime is missing: apt-get install faketime")
    return str(found[0])
