"""What a worker measures of itself, for `/metrics`."""

from collections.abc import Iterator

from quarterjack.metrics import Measure
from quarterjack_worker.acker import Acker
from quarterjack_worker.endings import Endings
from quarterjack_worker.loop_watch import LoopWatch
from quarterjack_worker.queues import Queues


def measure(
    queues: Queues, acker: Acker, endings: Endings, loop_watch: LoopWatch
) -> Iterator[Measure]:
    """Give each measure as it is now; any thread may ask."""
    for queue in queues:
        yield Measure(
            name="quarterjack_worker_running_jobs",
            about="Jobs that run now.",
            value=queue.running,
            labels={"queue": queue.name},
        )
    yield Measure(
        name="quarterjack_worker_fenced_acks_total",
        about="Outcomes that were dropped since another worker had been given the job.",
        value=acker.fenced,
    )
    for (worker, state), count in dict(endings.counts).items():
        yield Measure(
            name="quarterjack_worker_attempts_total",
            about="Attempts that have ended, by the state to which they led.",
            value=count,
            labels={"worker": worker, "state": state},
        )
    for worker, seconds in dict(endings.seconds).items():
        yield Measure(
            name="quarterjack_worker_attempt_seconds_total",
            about="For how many seconds attempts have run.",
            value=seconds,
            labels={"worker": worker},
        )
    for worker, count in dict(loop_watch.blocks).items():
        yield Measure(
            name="quarterjack_worker_loop_blocks_total",
            about="How often a job type has blocked the event loop for a second or more.",
            value=count,
            labels={"worker": worker},
        )
    for worker, seconds in dict(loop_watch.seconds).items():
        yield Measure(
            name="quarterjack_worker_loop_blocked_seconds_total",
            about="For how many seconds a job type has blocked the event loop.",
            value=seconds,
            labels={"worker": worker},
        )
