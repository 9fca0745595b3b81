"""Handlers that work in processes, for tests that run them in real workers."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.synchronize import Event
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


@job("fail_at_length", process=True, max_attempts=1)
def fail_at_length() -> None:
    """Fail for a reason that fills memory."""
    raise ValueError("x" * 1_000_000)


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


@job("await_in_process", process=True)
async def await_in_process(args: Marked, context: Context) -> None:
    """Run until a file called released stands beside the mark; say in another that it was stopped."""
    show(args)
    try:
        while not args.mark.with_name("released").exists():
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        args.mark.with_suffix(".stopped").touch()
        raise


@job("await_too_long_in_process", process=True, max_attempts=1, timeout=timedelta(seconds=0.5))
async def await_too_long_in_process(args: Marked, context: Context) -> None:
    """Wait for ever."""
    await await_in_process(args, context)


@job("spin_on_a_loop", process=True, max_attempts=1, timeout=timedelta(seconds=0.5))
async def spin_on_a_loop(args: Marked) -> None:
    """Heed nothing."""
    spin(args)


@job("await_anything", process=True, recorded=True)
async def await_anything(args: Numbered, context: Context) -> object:
    """Tell, enqueue and return something, in tasks and threads."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(context.progress, 50, "half"))
        group.create_task(asyncio.to_thread(context.enqueue, "count", {"n": args.n}))
    return {"n": args.n}


@job("leave_a_loop", process=True, max_attempts=1)
async def leave_a_loop() -> None:
    """End the process politely, in a task, which ends only the attempt."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(sys.exit, 3))


@job("copy_itself", process=True)
def copy_itself(args: Marked) -> None:
    """Return twice, from this process and from a copy of it."""
    if os.fork():
        os.wait()
        show(args)


@job("leave_a_copy", process=True, max_attempts=1)
def leave_a_copy(args: Marked) -> None:
    """Die, and leave a copy behind that holds what it has inherited."""
    if not os.fork():
        show(args)
        time.sleep(60)
        os._exit(0)
    while not args.mark.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


@job("end_a_copy", process=True, recorded=True)
def end_a_copy() -> object:
    """End a copy as multiprocessing does; its exit code."""
    fork = multiprocessing.get_context("fork")
    begun = fork.Event()
    copy = fork.Process(target=wait_for_the_end, args=(begun,))
    copy.start()
    begun.wait()
    copy.terminate()
    copy.join()
    return copy.exitcode


@job("end_a_copy_in_thread", recorded=True)
def end_a_copy_in_thread() -> object:
    """End a copy of the worker."""
    return end_a_copy()


def wait_for_the_end(begun: Event) -> None:
    """Run until somebody ends this process."""
    begun.set()
    time.sleep(60)


@job("start_and_spin", process=True, max_attempts=1, timeout=timedelta(seconds=0.5))
def start_and_spin(args: Marked) -> None:
    """Start a program, and wait for it."""
    with subprocess.Popen(["sleep", "60"]) as started:
        args.mark.write_text(str(started.pid))


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
