"""How long a failed job waits: as its job type says, or as Oban's default."""

import logging
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeAlias

from quarterjack.model import Job
from quarterjack_worker.handlers.failures import name

log = logging.getLogger(__name__)

Backoff: TypeAlias = timedelta | Sequence[timedelta] | Callable[[int], timedelta]
"""One wait, a wait for each attempt (the last repeats), or what gives it for the number of the attempt."""

MIN_PAD = 15.0
SCALE_TO = 20
JITTER = 0.1
LONGEST = timedelta(days=366)


def seconds_until_retry(backoff: Backoff | None, job: Job) -> float:
    """Give the seconds until the next attempt, with up to a tenth more so that jobs do not return in step.

    A function of the job type that fails or gives no usable time costs its job nothing: the default holds.
    """
    wait = default(job.attempt, job.max_attempts)
    if backoff is not None:
        try:
            wait = _checked(_look_up(backoff, job.attempt)).total_seconds()
        except BaseException as error:  # it may not keep the job from its outcome
            log.warning("the backoff of %s failed: %s; using the default", job.worker, name(error))
    return wait * (1 + random.uniform(0, JITTER))  # noqa: S311 - it spreads load, it guards nothing


def default(attempt: int, max_attempts: int) -> float:
    """Give 15 s + 2^n s, as Oban.

    With more than 20 attempts n is scaled, so that the longest wait stays that of the 20th, about 12 days.
    """
    n = attempt if max_attempts <= SCALE_TO else round(attempt / max_attempts * SCALE_TO)
    return MIN_PAD + 2.0 ** min(max(n, 0), SCALE_TO)


def check(backoff: Backoff | None) -> None:
    """Raise ValueError if this can be no backoff."""
    if backoff is None or callable(backoff):
        return
    waits = backoff if isinstance(backoff, Sequence) else [backoff]
    if not waits:
        raise ValueError("its backoff is empty; leave it out for the default")
    for wait in waits:
        _checked(wait)


def _look_up(backoff: Backoff, attempt: int) -> timedelta:
    if isinstance(backoff, timedelta):
        return backoff
    if callable(backoff):
        return backoff(attempt)
    return backoff[min(max(attempt, 1), len(backoff)) - 1]


def _checked(wait: object) -> timedelta:
    if not isinstance(wait, timedelta) or not timedelta(0) <= wait <= LONGEST:
        raise ValueError(f"its backoff gives {wait!r:.60}; give a timedelta of 0 to 366 days")
    return wait
