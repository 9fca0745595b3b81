"""How processes of a worker end, that none outlives its parent, and that copies of them are none."""

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
NAMES = {each.value: each.name for each in signal.Signals}
"""Most signals of the real-time kind have none."""
FAULTS = {
    *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
    *(signal.SIGILL, signal.SIGSEGV, signal.SIGSYS),
}
COPIED = threading.Event()
"""Is set in a copy of a process that has called `let_copies_end`."""
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def how(code: int) -> str:
    """Say how a process ended, from its exit code."""
    if code < 0:
        return f"was killed by {NAMES.get(-code, f'signal {-code}')}"
    return f"ended with exit code {code}"


def by_its_own_fault(code: int) -> bool:
    """Say whether a process ended by what it did, rather than by a signal that somebody may have sent."""
    return code >= 0 or -code in FAULTS


def let_copies_end() -> None:
    """Have the copies that handlers make of this process, as multiprocessing does, end when they are told to.

    They inherit what it does on a signal: it would wake its event loop, in place of theirs, and stop the worker.
    """
    os.register_at_fork(after_in_child=_be_a_copy)


def end_copy() -> None:
    """End this process if it is a copy that a handler let return: it would go on as the worker, on its connections."""
    if COPIED.is_set():
        os._exit(0)


def _be_a_copy() -> None:
    COPIED.set()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone: jobs of a killed pod run elsewhere."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
