"""What a plain scalar means: JSON's values, and text for all else.

YAML 1.1, 1.2 and JSON disagree on `yes`, `0755`, `12:30` and `.inf`; what they read differently must be quoted.
"""

import re

AMBIGUOUS = frozenset({"yes", "no", "on", "off", "y", "n"})
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,300})")
NUMERIC = re.compile(
    r"[-+]?(?:0[0-9_]+|[0-9]+_[0-9_.]*|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)"
    r"|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+|[-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)"
)
FLOAT = re.compile(r"[-+]?(?:[0-9]{1,300}\.[0-9]*|\.[0-9]+|[0-9]{1,300})(?:[eE][-+]?[0-9]{1,5})?")

Scalar = str | int | float | bool | None


class AmbiguousScalar(ValueError):
    """A plain scalar that readers of YAML understand differently; the message says what to write."""


def read(text: str) -> Scalar:
    """Give the value of a plain scalar; AmbiguousScalar if it must be quoted."""
    if text in NULLS:
        return None
    if text in TRUTHS:
        return TRUTHS[text]
    if text.lower() in AMBIGUOUS:
        raise AmbiguousScalar(
            f"{text} is read differently by YAML programs: write true, false or '{text}'"
        )
    if INTEGER.fullmatch(text):
        return int(text)
    if NUMERIC.fullmatch(text):
        raise AmbiguousScalar(
            f"{text[:40]} is read differently by YAML programs: write '{text[:40]}' for the text"
        )
    return float(text) if FLOAT.fullmatch(text) else text


def is_plain_text(text: str) -> bool:
    """Say whether a text can stand without quotes."""
    try:
        return isinstance(read(text), str)
    except AmbiguousScalar:
        return False
