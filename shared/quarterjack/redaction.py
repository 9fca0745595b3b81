"""Keep secrets off pages and out of logs: what is named like one, looks like one, or the job type names."""

import re
from collections.abc import Sequence
from typing import Any

HIDDEN = "•••• hidden"
SECRET = re.compile(
    r"pass(wor[dt]|phrase)?$|pwd|secret|token|api_?key|private_?key|^key$|auth|cookie|session|dsn|credential",
    re.IGNORECASE,
)
USERINFO = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
ASSIGNED = re.compile(r"(?i)\b(password|passwd|secret|token|api_?key)(\s*[=:]\s*)(\S+)")
DEEPEST = 40


def redact(value: Any, paths: Sequence[str] = (), *, at: str = "", depth: int = 0) -> Any:
    """Give a copy without secrets; `paths` are dotted names as the job type declares them."""
    if depth > DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {
            key: HIDDEN
            if SECRET.search(key) or f"{at}{key}" in paths
            else redact(each, paths, at=f"{at}{key}.", depth=depth + 1)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [redact(each, paths, at=at, depth=depth + 1) for each in value]
    return HIDDEN if isinstance(value, str) and scrub(value) != value else value


def restore(value: Any, stored: Any) -> Any:
    """Put back what a form showed as hidden and nobody changed."""
    if value == HIDDEN:
        return value if stored is None else stored
    if isinstance(value, dict):
        known = stored if isinstance(stored, dict) else {}
        return {key: restore(each, known.get(key)) for key, each in value.items()}
    if isinstance(value, list):
        padded = [*(stored if isinstance(stored, list) else []), *[None] * len(value)]
        return [restore(each, old) for each, old in zip(value, padded, strict=False)]
    return value


def scrub(text: str) -> str:
    """Hide passwords in addresses and assignments inside a text, as errors often hold them."""
    return ASSIGNED.sub(r"\1\2••••", USERINFO.sub("••••", text))
