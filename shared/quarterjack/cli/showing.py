"""A plan in words, without secrets."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from quarterjack.cli.plan import Change, Step
from quarterjack.redaction import redact

SIGNS = {"make": "+", "change": "~", "adopt": "~", "keep": "=", "remove": "-", "forgotten": "!"}
WORDS = {
    "make": "make",
    "change": "change",
    "adopt": "managed by this file from now on, nothing else changes",
    "keep": "unchanged",
    "remove": "remove: no longer in the file",
    "forgotten": "no longer in the file: --prune removes it",
}
LONGEST = 300


def show(steps: Sequence[Step], *, written: bool) -> str:
    """Give the lines of a plan and its sum."""
    lines = [line for step in steps for line in _step(step)]
    return "\n".join([*lines, _sum(steps, written=written)])


def _step(step: Step) -> Iterator[str]:
    yield f"{SIGNS[step.kind]} {step.name}: {WORDS[step.kind]}"
    if step.kind == "make":
        for name, value in step.written.items():
            if step.wanted is not None and (
                name in step.wanted.lines or name in ("worker", "cron")
            ):
                yield f"    {name}: {_value(step, name, value)}"
        if step.pause is not None:
            yield f"    paused: {_value(step, 'paused', step.pause or True)}"
    for change in step.changes:
        yield f"    {change.field}: {_change(step, change)}"
    if step.wanted is not None and step.job_type is None and step.kind != "keep":
        yield f"    note: no worker has registered {step.wanted.worker} yet"


def _change(step: Step, change: Change) -> str:
    old, new = _value(step, change.field, change.old), _value(step, change.field, change.new)
    said = f"{old} -> {new}" if old != new else "a hidden value changes"
    if change.drift is None:
        return said
    if (since := change.drift.since) is None:
        return f"{said} (changed since the file was applied; put back)"
    at = f"{since.created_at:%Y-%m-%d %H:%M} UTC"
    return f"{said} (changed by {since.author} on {at}, version {since.version}; put back)"


def _value(step: Step, name: str, value: Any) -> str:
    if name == "args":
        value = redact(value, step.job_type.redacted if step.job_type else ())
    text = (
        json.dumps(value, ensure_ascii=False, sort_keys=True)
        if not isinstance(value, str)
        else value
    )
    text = json.dumps(text, ensure_ascii=False) if not text.isprintable() else text
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _sum(steps: Sequence[Step], *, written: bool) -> str:
    counts = {kind: sum(step.kind == kind for step in steps) for kind in WORDS}
    names = {"make": "made", "change": "changed", "adopt": "adopted", "remove": "removed"}
    parts = [f"{counts[kind]} {name}" for kind, name in names.items() if counts[kind]]
    done = ", ".join(parts) or "nothing changed"
    if not written:
        done = (
            f"dry run, nothing was written: {', '.join(parts)}"
            if parts
            else "dry run: nothing would change"
        )
    kept = counts["keep"] + counts["forgotten"]
    return f"{done}; {kept} unchanged." if kept else f"{done}."
