"""What a handler may return to say that its job is neither done nor failed."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job again after `delay`; the attempt does not count."""

    delay: timedelta

    def __post_init__(self) -> None:
        if not isinstance(self.delay, timedelta) or self.delay < timedelta(0):
            raise ValueError(f"a snooze is a timedelta of 0 or more, not {self.delay!r:.60}")


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the job as cancelled: it is no longer wanted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Discard:
    """End the job as discarded: no retry can help."""

    reason: str


Outcome = Snooze | Cancel | Discard
