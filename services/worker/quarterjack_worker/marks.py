"""Which jobs of a process have begun, in memory that its supervisor reads when it is dead.

So a death costs an attempt only those that it may have been in: not those that waited for room, for their turn, or
for a process to run in.

Invariant: a job that has begun, and whose outcome is not written, is marked so where the supervisor looks. The mark is
set before the first line of a handler or of middleware runs, and whatever a process has written to this memory is there
after its death, however it dies. One byte stands for all ids that are equal modulo SIZE, and only ever grows, so the
mark of another job costs an attempt and never hides one. A job that was never taken is not taken for one that waited:
what kills a process while it is read must come to the end of its attempts.

Marks of what ended long ago would come to stand everywhere. So there are two halves, and before the other one counts,
it gets the marks of all that is not written yet.
"""

import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

SIZE = 2**18
TURN_AFTER = 2**15
TAKEN, BEGUN = 1, 2
LENGTH = 2 * SIZE + 1
"""Two halves, and a byte that says which one counts."""


class Marks:
    """The worker's side; `unwritten` gives the ids of all jobs whose outcome is not known to be written."""

    def __init__(self, descriptor: int, unwritten: Callable[[], Iterable[int]]) -> None:
        self._memory = mmap.mmap(descriptor, LENGTH)
        self._unwritten = unwritten
        self._first = self._begun = 0

    def take(self, id: int) -> None:
        """Note that a job waits here."""
        place = self._first + id % SIZE
        if not self._memory[place]:
            self._memory[place] = TAKEN

    def begin(self, id: int) -> None:
        """Note that a job begins; call it before."""
        self._memory[self._first + id % SIZE] = BEGUN
        self._begun += 1
        if self._begun >= TURN_AFTER:
            self._turn()

    def _turn(self) -> None:
        before, memory = self._first, self._memory
        first = SIZE - before
        memory[first : first + SIZE] = bytes(SIZE)
        for place in {id % SIZE for id in self._unwritten()}:
            memory[first + place] = memory[before + place]
        memory[-1] = first // SIZE
        self._first, self._begun = first, 0


@contextmanager
def memory() -> Iterator[int | None]:
    """Make memory for the marks of one process; None where there is none to share, or too little."""
    with ExitStack() as stack:
        descriptor = None
        if sys.platform == "linux":
            with suppress(OSError):
                made = os.memfd_create("quarterjack-marks")
                stack.callback(os.close, made)
                os.ftruncate(made, LENGTH)
                descriptor = made
        yield descriptor


def waiting(descriptor: int | None) -> Callable[[int], bool]:
    """Give what says of a job whether its process, which is dead, had taken it and not begun it."""
    if descriptor is None:
        return lambda _: False
    left = os.pread(descriptor, LENGTH, 0)
    first = SIZE * left[-1]
    return lambda id: left[first + id % SIZE] == TAKEN
