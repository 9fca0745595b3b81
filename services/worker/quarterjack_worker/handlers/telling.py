"""What an attempt tells while it runs: its progress, and its lines in the log of the standard library."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from numbers import Real

from quarterjack.model import Job
from quarterjack.queries.claims import Claim
from quarterjack.queries.journals import Journal
from quarterjack_worker.handlers.failures import name, storable

LINES = 100
LONGEST_LINE = 500
LONGEST_LEVEL = 20
LONGEST_MESSAGE = 200

Told = Callable[[Claim, Callable[[], Journal]], None]
"""Hears that the journal of an attempt, by its claim, is no longer what it was."""


class Telling:
    """The journal of one attempt as it grows, from any thread; `told` hears of every change.

    It keeps the last 100 lines: a handler in a loop costs memory and writes like any other.
    """

    def __init__(self, job: Job, claim: Claim, told: Told) -> None:
        self._job = job
        self._claim = claim
        self._told = told
        self._percent: float | None = None
        self._message: str | None = None
        self._lines: deque[dict[str, str]] = deque(maxlen=LINES)
        self._count = 0
        self._lock = threading.Lock()

    def progress(self, percent: float, message: str | None) -> None:
        """Take how far the attempt is; ValueError for what is no number."""
        if not isinstance(percent, Real) or not -math.inf < percent < math.inf:
            raise ValueError(f"progress is {percent!r:.60}: give a percentage from 0 to 100")
        self._percent = float(min(max(percent, 0), 100))
        self._message = None if message is None else storable(str(message), LONGEST_MESSAGE)
        self._told(self._claim, self.journal)

    def line(self, record: logging.LogRecord) -> None:
        """Take a line of the log."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {name(record.exc_info[1])}"
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": storable(str(record.levelname).lower(), LONGEST_LEVEL),
            "text": storable(text, LONGEST_LINE),
        }
        with self._lock:
            self._lines.append(line)
            self._count += 1
        self._told(self._claim, self.journal)

    def journal(self) -> Journal:
        """Give what was told so far."""
        with self._lock:
            lines, count = list(self._lines), self._count
        assert self._job.attempted_at is not None
        return Journal(
            job_id=self._job.id,
            attempted_at=self._job.attempted_at,
            attempt=self._job.attempt,
            percent=self._percent,
            message=self._message,
            lines=lines,
            left_out=count - len(lines),
        )


CURRENT: ContextVar[Callable[[], Telling] | None] = ContextVar("telling", default=None)
"""Gives the telling of the attempt that runs here, in its tasks and in its thread."""


class Capture(logging.Handler):
    """Hands the lines that an attempt logs to its telling, and passes over all others."""

    def handle(self, record: logging.LogRecord) -> bool:
        telling = CURRENT.get()
        if telling is not None:
            try:
                telling().line(record)
            except Exception:
                self.handleError(record)
        return True
