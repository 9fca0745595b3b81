"""Who waits for the next instant wakes with all others that do."""

import pytest

from quarterjack import clock


def test_all_who_wait_so_wake_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = clock.BEGUN

    def wakes(after: float, seconds: float) -> float:
        monkeypatch.setattr("time.monotonic", lambda: begun + after)
        return after + clock.until_next(seconds)

    together = [wakes(7.1, 1.0), wakes(7.9, 1.0), wakes(7.6, 0.5)]
    assert together == pytest.approx([8.001] * 3)
    assert wakes(8.0005, 1.0) == pytest.approx(9.001)
