"""An event loop whose time passes only when nobody has anything to do."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Idle(selectors.DefaultSelector):
    """Lets the time pass that it was asked to wait."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for something that nobody will do")
        self.passed += timeout
        return [] if timeout else super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Reads its time off the selector."""

    def __init__(self) -> None:
        self._idle = Idle()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.passed


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
