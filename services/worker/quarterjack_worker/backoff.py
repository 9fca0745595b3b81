"""How long a failed job waits: as Oban's default."""

import random

MIN_PAD = 15.0
SCALE_TO = 20
JITTER = 0.1


def backoff(attempt: int, max_attempts: int) -> float:
    """Give the seconds until the next attempt: 15 s + 2^n s, and up to a tenth more.

    With more than 20 attempts n is scaled, so that the longest wait stays that of the 20th, about 12 days.
    """
    n = attempt if max_attempts <= SCALE_TO else round(attempt / max_attempts * SCALE_TO)
    wait = MIN_PAD + 2.0 ** min(max(n, 0), SCALE_TO)
    return wait * (1 + random.uniform(0, JITTER))  # noqa: S311 - it spreads load, it guards nothing
