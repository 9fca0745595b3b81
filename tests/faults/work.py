"""Jobs for workers that are made to fail. Each attempt is written down where no database can roll it back.

Invariant: one line is one `write` to a file opened with O_APPEND, so that processes never mix their lines,
and a line stands once the attempt goes on.
"""

import asyncio
import ctypes
import functools
import itertools
import json
import os
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from quarterjack_worker import Context, Snooze, job, middleware
from quarterjack_worker.handlers.middleware import Next

SPINS = 10_000_000
EFFECTS = Path(os.environ.get("FAULT_EFFECTS", os.devnull))


@dataclass(frozen=True)
class Work:
    """`gate` is a file beside that of the effects; the job ends when it appears."""

    seconds: float = 0.0
    gate: str = "gate"


@middleware
async def write_down(context: Context, next: Next) -> Any:
    """Note when an attempt began, and when it ended how."""
    _note(context, "began")
    outcome = "failed"
    try:
        result = await next()
        outcome = "snoozed" if isinstance(result, Snooze) else "done"
    except asyncio.CancelledError:
        outcome = "stopped"
        raise
    finally:
        _note(context, outcome)
    return result


def _note(context: Context, what: str) -> None:
    job = context.job
    assert job.attempted_at is not None
    line = {
        "job_id": job.id,
        "producer": job.attempted_by[1],
        "claimed": job.attempted_at.isoformat(),
        "what": what,
        "at": time.time(),
    }
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(file)


@job("count")
async def count() -> None:
    """Do nothing; what the schedules fire."""


@job("wait")
async def wait(args: Work) -> None:
    """Take a while."""
    await asyncio.sleep(args.seconds)


@job("wait_in_thread")
def wait_in_thread(args: Work) -> None:
    """Take a while in a thread."""
    time.sleep(args.seconds)


@job("block")
async def block(args: Work) -> None:
    """Let no other job of the process have a turn."""
    time.sleep(args.seconds)  # noqa: ASYNC251 - that is the point


@job("hold_interpreter")
def hold_interpreter(args: Work) -> None:
    """Let no other thread of the process have a turn, and use the CPU for so long."""
    begin = time.thread_time()
    _spin(SPINS)
    _spin(int(SPINS * args.seconds / (time.thread_time() - begin)))


def _spin(times: int) -> None:
    deque(itertools.repeat(None, times), maxlen=0)


@job("hold_interpreter_idly")
def hold_interpreter_idly(args: Work) -> None:
    """Let no other thread of the process have a turn, and use no CPU."""
    ctypes.PyDLL(None).sleep(int(args.seconds))


@job("hold", recorded=True)
async def hold(args: Work, context: Context) -> int:
    """Run until the gate opens, and record the attempt."""
    await asyncio.shield(_opened(args.gate))
    return context.attempt


@job("pass_gate")
async def pass_gate(args: Work) -> None:
    """Run until the gate opens."""
    await asyncio.shield(_opened(args.gate))


@job("write_when_opened", backoff=timedelta(seconds=0.2))
async def write_when_opened(args: Work, context: Context) -> None:
    """Leave one row once the gate opens."""
    await asyncio.shield(_opened(args.gate))
    await write(args, context)


@job("census", recorded=True)
async def census() -> int:
    """Count the tasks of this process."""
    return len(asyncio.all_tasks())


@job("write", backoff=timedelta(seconds=0.2))
async def write(args: Work, context: Context) -> None:
    """Leave one row, which commits with the completion."""
    async with context.transaction() as connection:
        await connection.execute("INSERT INTO fault_effects VALUES ($1)", context.job.id)


@job("fail_once", backoff=timedelta(seconds=0.2))
async def fail_once(args: Work, context: Context) -> None:
    """Fail at the first attempt."""
    if context.attempt == 1:
        raise ValueError("the first attempt fails")


@job("snooze_once")
async def snooze_once(args: Work, context: Context) -> Snooze | None:
    """Come back once."""
    return None if "snoozed" in context.job.meta else Snooze(timedelta(seconds=0.2))


@job("poison")
async def poison() -> None:
    """Take the whole process down."""
    os._exit(7)


@job("measure", recorded=True)
async def measure(args: dict[str, Any]) -> dict[str, Any]:
    """Give back what came through."""
    text, number = args.get("text"), args.get("number")
    return {
        "length": len(text) if isinstance(text, str) else None,
        "text": text if isinstance(text, str) and len(text) < 100 else None,
        "number": str(number),
    }


@functools.cache
def _opened(gate: str) -> "asyncio.Task[None]":
    """One look-out for all jobs at a gate."""
    return asyncio.create_task(_look_out(EFFECTS.with_name(gate)))


async def _look_out(gate: Path) -> None:
    while not gate.exists():  # noqa: ASYNC240 - on a local disk
        await asyncio.sleep(0.02)
