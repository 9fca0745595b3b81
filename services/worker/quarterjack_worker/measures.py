"""What a worker measures of itself, for `/metrics`."""

from collections.abc import Iterator, Mapping

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
    yield from _by_worker(
        "quarterjack_worker_attempt_seconds_total",
        "For how many seconds attempts have run.",
        endings.seconds,
    )
    yield from _by_worker(
        "quarterjack_worker_loop_blocks_total",
        "How often a job type has blocked the event loop for a second or more.",
        loop_watch.blocks,
    )
    yield from _by_worker(
        "quarterjack_worker_loop_blocked_seconds_total",
        "For how many seconds a job type has blocked the event loop.",
        loop_watch.seconds,
    )


def _by_worker(name: str, about: str, values: Mapping[str, float]) -> Iterator[Measure]:
    for worker, value in dict(values).items():
        yield Measure(name=name, about=about, value=value, labels={"worker": worker})
