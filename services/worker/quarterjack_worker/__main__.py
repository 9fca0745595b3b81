"""Run `quarterjack-worker`: claims jobs of its queues, runs them, acknowledges them."""

import asyncio
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

from quarterjack.errors import SettingInvalid
from quarterjack.process import MENDABLE, in_words, node_name, set_up_logging
from quarterjack_worker import deaths, settings, supervisor

try:
    import uvloop  # type: ignore[import-not-found, unused-ignore]  # an extra
except ImportError:
    uvloop = None  # it is faster by a tenth where it is installed, and nothing depends on it

log = logging.getLogger(__name__)

GARBAGE = 10_000, 3, 3
"""New objects after which garbage is looked for, since a batch of jobs makes thousands that go by themselves; then the
old ones often enough, lest lost connections and errors pile up where jobs are few."""


def main() -> None:
    """Run the command line: the supervisor, or in its child the worker itself."""
    chosen = settings.parse()
    try:
        set_up_logging()
    except SettingInvalid as error:
        sys.exit(f"quarterjack-worker: {error}")
    told = (supervisor.LIFE, supervisor.TURNS, supervisor.MARKS)
    life, turns, marks = (os.environ.pop(name, "") for name in told)  # it is for no other process
    if not life:
        sys.exit(supervisor.supervise(chosen, sys.argv[1:], node_name()))
    _work(chosen, UUID(life), int(turns), int(marks) if marks else None)


def _work(chosen: settings.Settings, life: UUID, turns: int, marks: int | None) -> None:
    """Work, and end at once: a thread that does not heed its cancellation must not keep the process."""
    from quarterjack_worker.service import serve

    deaths.let_copies_end()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    try:
        code = _run(serve(chosen, life, turns, marks))
    except MENDABLE as error:
        print(f"quarterjack-worker: {in_words(error)}", file=sys.stderr)
        code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # it may be closed, or full
            stream.flush()
    os._exit(code)


def _run(service: Coroutine[Any, Any, int]) -> int:
    """Run on a new event loop, through a `SystemExit` in a task that a handler made, or its `stop()` of the loop.

    Asyncio hands either to whoever runs the loop and lets the loop go on. The loop is not closed, which
    would wait for every task that does not heed its cancellation.
    """
    loop: asyncio.AbstractEventLoop = (uvloop or asyncio).new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(service)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            if task.done() or loop.is_closed():
                raise
            log.error("a handler tried to end the process by %s", type(error).__name__)


if __name__ == "__main__":
    main()
