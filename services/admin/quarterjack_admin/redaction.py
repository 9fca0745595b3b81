"""Keep secrets off the pages: what is named like one, and what the job type names."""

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
    return scrub(value) if isinstance(value, str) else value


def scrub(text: str) -> str:
    """Hide passwords in addresses and assignments inside a text, as errors often hold them."""
    return ASSIGNED.sub(r"\1\2••••", USERINFO.sub("••••", text))
