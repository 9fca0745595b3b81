"""How processes of a worker end, and that none outlives its parent."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def how(code: int) -> str:
    """Say how a process ended, from its exit code."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone: jobs of a killed pod run elsewhere."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
