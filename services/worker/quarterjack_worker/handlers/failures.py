"""What is written of an attempt that failed."""

import traceback
from collections.abc import Iterator
from itertools import islice

from quarterjack.encoding import UNSTORABLE

LONGEST_ERROR = 20_000
ROOM = 50
"""For what says how much was left out: what was cut once is not cut again."""
MOST_NAMED = 3


class Failed(Exception):
    """The attempt failed; the message is its error."""


def describe(error: BaseException) -> str:
    """Give "Type: message" and the traceback; an exception that cannot describe itself is no obstacle."""
    said = name(error)
    try:
        return f"{said}\n\n{''.join(traceback.format_exception(error))}"
    except BaseException:
        return said


def name(error: BaseException) -> str:
    """Give "Type: message", of whatever kind the message is; for a group with the first of what it holds."""
    try:
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, BaseExceptionGroup):
            first = islice(_leaves(error), MOST_NAMED)
            return "; ".join([said, *(name(leaf).partition("\n")[0] for leaf in first)])
        return said
    except BaseException:
        return f"{type(error).__name__}: (its message could not be read)"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    left = [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            yield each


def storable(text: str, longest: int = LONGEST_ERROR) -> str:
    """Cut the middle out of what is too long, and take out what JSON in Postgres cannot hold."""
    if len(text) > longest + ROOM:
        half = longest // 2
        text = f"{text[:half]}\n… {len(text) - longest} characters left out …\n{text[-half:]}"
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
