"""Pages by key: a page knows the ids at its edges, and nothing is counted or skipped."""

from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 2**63 - 1
LAST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The ids of a page, in the order shown; `newer` and `older` say where others follow."""

    ids: Sequence[int]
    newer: bool
    older: bool

    @classmethod
    def forwards(cls, found: Sequence[int], size: int, *, first: bool) -> "Page":
        """Make a page of ids in their order, one more than `size` asked for."""
        return cls(ids=found[:size], newer=not first, older=len(found) > size)

    @classmethod
    def backwards(cls, found: Sequence[int], size: int) -> "Page":
        """Make a page of ids found against their order."""
        return cls(ids=list(reversed(found[:size])), newer=len(found) > size, older=True)


def read_page(text: str | None) -> int:
    """Read the number of a page from an address."""
    return min(read_number(text) or 1, LAST)


def read_number(text: str | None) -> int | None:
    """Read an id from an address; None for what is none."""
    if not text or not text.isascii() or not text.isdecimal() or len(text) > 19:
        return None
    return min(int(text), LARGEST)
