"""Handlers that work in processes, for tests that run them in real workers."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from quarterjack_worker import Cancel, Context, Snooze, job
from tests.handlers import Numbered


@dataclass(frozen=True)
class Marked:
    """`mark` is a file that shows that the job has begun, and holds its process."""

    mark: Path


def show(args: Marked) -> None:
    whole = args.mark.with_suffix(".new")
    whole.write_text(str(os.getpid()))
    whole.rename(args.mark)


@job("compute", process=True)
def compute(args: Marked) -> None:
    """Show the process."""
    show(args)


@job("crash", process=True, max_attempts=1)
def crash() -> None:
    """Take the process down, as a segmentation fault would."""
    os.kill(os.getpid(), signal.SIGKILL)


@job("compute_until_released", process=True)
def compute_until_released(args: Marked) -> None:
    """Run until a file called released stands beside the mark."""
    show(args)
    while not args.mark.with_name("released").exists():
        time.sleep(0.02)


@job("spin", process=True, max_attempts=1, timeout=timedelta(seconds=0.5))
def spin(args: Marked) -> None:
    """Heed nothing."""
    show(args)
    while True:
        pass


@job("heed", process=True, max_attempts=1, timeout=timedelta(seconds=0.5))
def heed(args: Marked, context: Context) -> None:
    """Stop when asked to."""
    show(args)
    while not context.cancelled():
        time.sleep(0.01)


@job("snooze_in_process", process=True)
def snooze_in_process(args: Numbered, context: Context) -> object:
    """Warn, and come back."""
    context.warn(f"attempt {context.attempt} comes back")
    return Snooze(timedelta(hours=1))


@job("unpicklable", process=True, max_attempts=1)
def unpicklable() -> object:
    """Return what cannot leave the process."""
    return Cancel(threading.Lock())  # type: ignore[arg-type] # that is the point


@job("leave_process", process=True, max_attempts=1)
def leave_process() -> None:
    """End the process politely, which ends only the attempt."""
    sys.exit(3)


@job("stop_iterating", process=True, max_attempts=1)
def stop_iterating(args: Numbered, context: Context) -> None:
    """Reach for the database, which is not there."""
    assert context.pool
