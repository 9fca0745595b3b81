"""What a plain scalar means: JSON's values, and text for all else.

YAML 1.1 and 1.2 disagree on `yes`, `0755` and `12:30`; what they read differently must be quoted.
"""

import re

AMBIGUOUS = frozenset({"yes", "no", "on", "off", "y", "n"})
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,300})")
OCTAL = re.compile(r"[-+]?0[0-9_]+|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+")
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
    if OCTAL.fullmatch(text):
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
