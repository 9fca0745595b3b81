"""What a worker counts of attempts that have ended."""

from datetime import UTC, datetime

import pytest

from quarterjack.model import Job, JobState
from quarterjack_worker import endings
from quarterjack_worker.endings import OTHER, Endings
from quarterjack_worker.oban_web import ObanWeb
from quarterjack_worker.queues import Queues

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def job(worker: str) -> Job:
    return Job(
        id=1,
        state=JobState.EXECUTING,
        queue="default",
        worker=worker,
        args={},
        meta={},
        tags=[],
        errors=[],
        attempt=1,
        max_attempts=20,
        priority=0,
        attempted_by=[],
        inserted_at=NOW,
        scheduled_at=NOW,
        attempted_at=NOW,
        completed_at=None,
        cancelled_at=None,
        discarded_at=None,
    )


def test_types_without_end_are_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "MOST", 2)
    counted = Endings(ObanWeb("n", Queues({}, {}, "n")))
    for worker in ("a", "b", "c", "a", "d"):
        counted.note(job(worker), "completed", None, 0.5)
    counted.note(job("a"), "retryable", None, 0.25)

    assert counted.counts == {
        ("a", "completed"): 2,
        ("b", "completed"): 1,
        (OTHER, "completed"): 2,
        ("a", "retryable"): 1,
    }
    assert counted.seconds == {"a": 1.25, "b": 0.5, OTHER: 1.0}
