"""A process of the pool: `python -m quarterjack_worker.handlers.child DESCRIPTOR`. It runs jobs, one after the other.

It ends with its worker: when the socket closes, or by the kernel. What a handler does here, it does to itself alone.
"""

import asyncio
import faulthandler
import importlib
import itertools
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from quarterjack.errors import QuarterjackError
from quarterjack.process import set_up_logging
from quarterjack.queries.journals import Journal
from quarterjack_worker.deaths import die_with_parent, let_copies_end
from quarterjack_worker.handlers.calling import arguments, call, check_ran
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.failures import Failed, describe, name, storable
from quarterjack_worker.handlers.job_types import JobType
from quarterjack_worker.handlers.messages import (
    Answer,
    Ask,
    Begin,
    Ended,
    Import,
    Ping,
    Ready,
    Stop,
    pack,
    receive,
)
from quarterjack_worker.handlers.outcomes import Outcome
from quarterjack_worker.handlers.registry import REGISTRY
from quarterjack_worker.handlers.telling import CURRENT, Capture

log = logging.getLogger(__name__)

TELL_EVERY = 0.25
OOM_SCORE = Path("/proc/self/oom_score_adj")


def main() -> None:
    """Serve the socket that was handed over, until it closes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # they are meant for the worker, which lets jobs end
    let_copies_end()
    faulthandler.enable()
    die_with_parent()
    with suppress(OSError):
        OOM_SCORE.write_text("500")  # if memory runs out, better this one job than its worker
    set_up_logging()
    logging.getLogger().addHandler(Capture())
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    os.register_at_fork(after_in_child=partial(_hang_up, sock))
    with suppress(OSError, EOFError):  # its worker is gone
        Child(sock).serve()


def _hang_up(sock: socket.socket) -> None:
    """Leave the socket to this process alone: a copy that a handler makes of it speaks for no job."""
    with suppress(OSError):
        os.close(sock.detach())


class Child:
    """Runs on the main thread what another thread receives; a third one tells the worker how it goes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        self._begun: queue.SimpleQueue[Context] = queue.SimpleQueue()
        self._context: Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = itertools.count()
        self._asked: dict[int, Future[Answer]] = {}
        self._journal: Callable[[], Journal] | None = None
        self._missing: list[str] = []
        self._changed = threading.Event()
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Import, then run whatever comes; never returns."""
        first: Import = receive(self._file)
        sys.path[:] = first.path
        for module in first.modules:
            try:
                importlib.import_module(module)
            except Exception as error:
                log.warning(
                    "a process cannot import %s, so it runs no job of it: %s", module, error
                )
                self._missing.append(f"it cannot import {module}: {name(error)}")
        for work in (self._listen, self._tell):
            threading.Thread(target=work, daemon=True).start()
        self._send(pack(Ready()))
        while True:
            end = self._run(self._begun.get())
            if self._sock.fileno() < 0:
                os._exit(0)  # a copy that a handler made, and let return from it
            self._send_journal()
            self._send(end)

    def _send(self, packed: bytes) -> None:
        with self._sending:
            self._sock.sendall(packed)

    def _told(self, _: object, journal: Callable[[], Journal]) -> None:
        self._journal = journal
        self._changed.set()

    def _tell(self) -> None:
        while self._changed.wait():
            self._send_journal()
            time.sleep(TELL_EVERY)

    def _send_journal(self) -> None:
        with self._sending:  # so that none follows the end of its job
            if self._changed.is_set() and self._journal is not None:
                self._changed.clear()
                self._sock.sendall(pack(self._journal()))

    def _listen(self) -> None:
        try:
            while True:
                message = receive(self._file)
                if isinstance(message, Ping):
                    self._send(pack(Ready()))
                elif isinstance(message, Begin):
                    self._context = self._begin(message)
                    self._begun.put(self._context)
                elif isinstance(message, Stop) and self._context is not None:
                    self._stop(self._context)
                elif isinstance(message, Answer) and (asked := self._asked.get(message.number)):
                    with suppress(InvalidStateError):  # who asked has been stopped
                        asked.set_result(message)
        except (OSError, EOFError):
            os._exit(0)
        except BaseException:
            log.exception("a process cannot go on")
            os._exit(1)

    def _begin(self, begin: Begin) -> Context:
        return Context(
            job=begin.job,
            claim=begin.claim,
            handlers_pool=None,
            told=self._told,
            ask=self._ask,
            deadline=begin.deadline,
        )

    def _stop(self, context: Context) -> None:
        context.cancel()
        for asked in list(self._asked.values()):
            asked.cancel()
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed: the job has ended
                self._loop.call_soon_threadsafe(context.interrupt)

    async def _ask(self, beyond: int) -> list[dict[str, Any]]:
        """Have the worker read parents, for it has the connections."""
        number, asked = next(self._numbers), Future[Answer]()
        self._asked[number] = asked
        try:
            self._send(pack(Ask(number, beyond)))
            answer = await asyncio.wrap_future(asked)
        finally:
            del self._asked[number]
        if answer.error is not None:
            raise QuarterjackError(f"the parents could not be read: {answer.error}")
        return answer.parents

    async def _await(self, type: JobType, context: Context) -> object:
        context.task, context.begun = asyncio.current_task(), True
        self._loop = asyncio.get_running_loop()
        if context.cancelled():
            raise asyncio.CancelledError
        result = await type.handler(*arguments(type, context))
        check_ran(result)
        return result

    def _run(self, context: Context) -> bytes:
        """Run one job; gives the message of its end."""
        current = CURRENT.set(context.telling)
        outcome: object = None
        error = None
        try:
            type = REGISTRY.get(context.job.worker)
            if type is None:
                why = "; ".join(self._missing) or (
                    "define it at the top of a module that can be imported by its name"
                )
                raise Failed(
                    f"UnknownWorker: a process knows no job named {context.job.worker!r}: {why}"
                )
            result = (
                asyncio.run(self._await(type, context)) if type.is_async else call(type, context)
            )
            if isinstance(result, Outcome):
                outcome = result
            elif type.recorded and result is not None:
                context.record(result)
                outcome = context.notes.get("result")
        except Failed as failure:
            error = storable(str(failure))
        except BaseException as failure:
            error = storable(describe(failure))  # here, where it holds up no other job
        finally:
            context.over = True
            CURRENT.reset(current)
        try:
            return pack(
                Ended(outcome=outcome, error=error, notes=context.notes, children=context.children)
            )
        except Exception as failure:
            return pack(Ended(error=f"its outcome cannot leave the process: {describe(failure)}"))


if __name__ == "__main__":
    main()
