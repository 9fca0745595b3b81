"""Ends a throw-away server whose owner is gone, however that ended: python -m quarterjack_local.keeper PLACE BIN_DIR

The owner holds its standard input open, and kills it when the server has been stopped.
"""

import shutil
import sys
from pathlib import Path


def main(place: Path, bin_dir: Path) -> None:
    """Wait for the end of the owner, then stop the server in `place` and remove it."""
    sys.stdin.read()
    from quarterjack_local.postgres import Server  # here, since what only waits should be small

    Server(place / "data", bin_dir=bin_dir).stop("immediate")
    shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
