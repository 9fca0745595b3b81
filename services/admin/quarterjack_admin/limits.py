"""How often someone may try something: token buckets in the memory of this process."""

import time
from dataclasses import dataclass

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `burst` at once, refilled evenly over `seconds`."""

    burst: int
    seconds: float


ACCOUNT = Rate(burst=5, seconds=60)
ADDRESS = Rate(burst=20, seconds=60)
PREVIEW = Rate(burst=20, seconds=2)
ACTION = Rate(burst=60, seconds=60)


class Limits:
    """Counts tries by rate and by whom."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[Rate, str], tuple[float, float]] = {}

    def wait(self, rate: Rate, who: str) -> float:
        """Take one try; 0 if it is allowed, else the seconds until the next one is."""
        now = time.monotonic()
        left, at = self._buckets.pop((rate, who), (float(rate.burst), now))
        left = min(float(rate.burst), left + (now - at) * rate.burst / rate.seconds)
        allowed = left >= 1
        self._buckets[rate, who] = (left - 1 if allowed else left, now)
        if len(self._buckets) > REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        return 0.0 if allowed else (1 - left) * rate.seconds / rate.burst
