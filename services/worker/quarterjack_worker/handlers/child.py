"""A process of the pool: `python -m quarterjack_worker.handlers.child DESCRIPTOR`. It runs jobs, one after the other.

It ends with its worker: when the socket closes, or by the kernel. What a handler does here, it does to itself alone.
"""

import faulthandler
import importlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from quarterjack.process import set_up_logging
from quarterjack.queries.journals import Journal
from quarterjack_worker.deaths import die_with_parent
from quarterjack_worker.handlers.calling import call
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.failures import Failed, describe
from quarterjack_worker.handlers.messages import Begin, Ended, Import, Ready, Stop, pack, receive
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
    faulthandler.enable()
    die_with_parent()
    with suppress(OSError):
        OOM_SCORE.write_text("500")  # if memory runs out, better this one job than its worker
    set_up_logging()
    logging.getLogger().addHandler(Capture())
    Child(socket.socket(fileno=int(sys.argv[1]))).serve()


class Child:
    """Runs on the main thread what another thread receives; a third one tells the worker how it goes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        self._begun: queue.SimpleQueue[Begin] = queue.SimpleQueue()
        self._context: Context | None = None
        self._journal: Callable[[], Journal] | None = None
        self._changed = threading.Event()
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Import, then run whatever comes; never returns."""
        first: Import = receive(self._file)
        sys.path[:] = first.path
        for module in first.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                log.warning(
                    "a process cannot import %s, so it runs no job of it: %s", module, error
                )
        for work in (self._listen, self._tell):
            threading.Thread(target=work, daemon=True).start()
        self._send(pack(Ready()))
        while True:
            end = self._run(self._begun.get())
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
        if self._changed.is_set() and self._journal is not None:
            self._changed.clear()
            self._send(pack(self._journal()))

    def _listen(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                message = receive(self._file)
                if isinstance(message, Begin):
                    self._begun.put(message)
                elif isinstance(message, Stop) and self._context is not None:
                    self._context.cancel()
        os._exit(0)

    def _run(self, begin: Begin) -> bytes:
        """Run one job; gives the message of its end."""
        context = self._context = Context(
            job=begin.job,
            claim=begin.claim,
            handlers_pool=None,
            told=self._told,
            deadline=begin.deadline,
        )
        current = CURRENT.set(context.telling)
        outcome: object = None
        error = None
        try:
            type = REGISTRY.get(begin.job.worker)
            if type is None:
                raise Failed(
                    f"UnknownWorker: a process knows no job named {begin.job.worker!r}: "
                    "define it at the top of a module that can be imported by its name"
                )
            result = call(type, context)
            if isinstance(result, Outcome):
                outcome = result
            elif type.recorded and result is not None:
                context.record(result)
                outcome = context.notes.get("result")
        except Failed as failure:
            error = str(failure)
        except BaseException as failure:
            error = describe(failure)
        finally:
            CURRENT.reset(current)
        try:
            return pack(
                Ended(outcome=outcome, error=error, notes=context.notes, children=context.children)
            )
        except Exception as failure:
            return pack(Ended(error=f"its outcome cannot leave the process: {describe(failure)}"))


if __name__ == "__main__":
    main()
