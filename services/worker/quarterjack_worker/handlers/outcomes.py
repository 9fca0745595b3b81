"""What a handler may return to say that its job is neither done nor failed."""

from dataclasses import dataclass
from datetime import timedelta

LONGEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job again after `delay`; the attempt does not count."""

    delay: timedelta

    def __post_init__(self) -> None:
        if not isinstance(self.delay, timedelta) or not timedelta(0) <= self.delay <= LONGEST:
            raise ValueError(
                f"a snooze is a timedelta of 0 to {LONGEST.days} days, not {self.delay!r:.60}"
            )


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the job as cancelled: it is no longer wanted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Discard:
    """End the job as discarded: no retry can help."""

    reason: str


Outcome = Snooze | Cancel | Discard
