"""What is told of attempts that have ended: in the log, in the measures and to Oban Web."""

import logging

from quarterjack.model import Job, JobState
from quarterjack.queries.acks import Ack
from quarterjack_worker.oban_web import ObanWeb

log = logging.getLogger(__name__)

MOST = 1_000
OTHER = "other"
FAILED = (JobState.RETRYABLE, JobState.DISCARDED)
LEVELS: dict[str, int] = {"completed": logging.DEBUG} | dict.fromkeys(FAILED, logging.WARNING)


class Endings:
    """Counts attempts by job type and the state that they lead to; types beyond MOST as one, for a row may name any."""

    def __init__(self, web: ObanWeb) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.seconds: dict[str, float] = {}
        self._web = web

    def note(self, job: Job, state: str, ack: Ack | None, seconds: float) -> None:
        """Note one that took so long; its ack is None if the handler's transaction has written it."""
        worker = job.worker
        if worker not in self.seconds:
            worker = worker if len(self.seconds) < MOST else OTHER
            self.seconds.setdefault(worker, 0.0)
        self.seconds[worker] += seconds
        self.counts[worker, state] = self.counts.get((worker, state), 0) + 1
        if state != JobState.COMPLETED or log.isEnabledFor(logging.DEBUG):
            _log(job, state, ack)
        self._web.ended(job, state, ran=int(seconds * 1e9))


def failure(ack: Ack | None) -> str | None:
    """Give the first line of what a failed attempt ended with."""
    if ack is None or not ack.error or ack.state not in FAILED:
        return None
    return ack.error.partition("\n")[0][:300]


def _log(job: Job, state: str, ack: Ack | None) -> None:
    """Log it: a failure as a warning, and for what went well, which may be thousands a second, at most a debug line."""
    level = LEVELS.get(state, logging.INFO)
    if log.isEnabledFor(level):
        said = f": {why}" if (why := failure(ack)) else ""
        log.log(
            level, "job %s %s is %s%s", job.id, job.worker, state, said, extra={"job_id": job.id}
        )
