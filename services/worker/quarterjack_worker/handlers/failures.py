"""What is written of an attempt that failed."""

import re
import traceback

LONGEST_ERROR = 20_000
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


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
    """Give "Type: message", of whatever kind the message is."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return f"{type(error).__name__}: (its message could not be read)"


def storable(text: str, longest: int = LONGEST_ERROR) -> str:
    """Cut the middle out of what is too long, and take out what JSON in Postgres cannot hold."""
    clean = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    if len(clean) <= longest:
        return clean
    half = longest // 2
    return f"{clean[:half]}\n… {len(clean) - longest} characters left out …\n{clean[-half:]}"
