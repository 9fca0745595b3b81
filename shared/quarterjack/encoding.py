"""JSON objects that Postgres and every Oban can store."""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from quarterjack.errors import JobInvalid

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that no text in Postgres holds."""
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
DIGITS, MOST_DIGITS = "0123456789", 1_000
DEEPEST = 200
LARGEST = 64_000_000
SCALARS = frozenset({str, int, float, bool, type(None)})
ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


def encode_object(name: str, value: Mapping[str, Any]) -> str:
    """Write a JSON object that Postgres and every Oban can store; JobInvalid says what cannot be."""
    if type(value) is not dict and not isinstance(value, Mapping):
        better = ", or what quarterjack_worker.new_job makes of it" if name == "args" else ""
        raise JobInvalid(
            f"{name} is a {type(value).__name__}: give an object with text keys{better}"
        )
    if not value:
        return "{}"
    _check_shape(name, value)
    try:
        text = ENCODER.encode(value if type(value) is dict else dict(value))
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise JobInvalid(
            f"{name} holds half of a surrogate pair, which JSON cannot store"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise JobInvalid(f"{name} cannot be written as JSON: {str(error)[:200]}") from error
    if NUL.search(text):
        raise JobInvalid(f"{name} holds a NUL character, which Postgres cannot store")
    if _may_hold_long_number(text):
        json.loads(text, parse_int=partial(_check_digits, name))
    if size > LARGEST:
        raise JobInvalid(f"{name} has {size} bytes of JSON: at most 64 MB, so store a reference")
    return text


def _may_hold_long_number(text: str) -> bool:
    """Look at the digits around each thousandth character, which costs little of what the encoding does."""
    for at in range(MOST_DIGITS, len(text), MOST_DIGITS):
        before, after = text[at - MOST_DIGITS : at], text[at : at + MOST_DIGITS + 1]
        others = len(before.rstrip(DIGITS)) + len(after.lstrip(DIGITS))
        if len(before) + len(after) - others > MOST_DIGITS:
            return True
    return False


def _check_digits(name: str, number: str) -> None:
    """Refuse a number whose job, once it is fetched, takes an Elixir node's database pool down."""
    if len(number.lstrip("-")) > MOST_DIGITS:
        raise JobInvalid(
            f"{name} holds a number of more than {MOST_DIGITS} digits, which no Elixir reads: give a text"
        )


def _check_shape(name: str, value: object) -> None:
    """Refuse keys that JSON would turn into texts, and depths that a reader may not survive."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        below: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                for key in each:
                    if not isinstance(key, str):
                        raise JobInvalid(f"{name} has a key that is not a text")
                below += each.values()
            elif isinstance(each, list | tuple):
                below += each
        level = [each for each in below if type(each) not in SCALARS]
        if not level:
            return
    raise JobInvalid(f"{name} is nested deeper than {DEEPEST} levels")
