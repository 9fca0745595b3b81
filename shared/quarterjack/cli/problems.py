"""What is wrong with a file: all of it at once, each with its line."""

from collections.abc import Sequence
from dataclasses import dataclass

from quarterjack.errors import QuarterjackError

MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to put right; `line` counts from 1, 0 is the file as a whole."""

    line: int
    text: str


class FileInvalid(QuarterjackError):
    """A file cannot be used; the message lists every problem."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        ordered = sorted(problems, key=lambda problem: problem.line)
        lines = [f"{name}:{p.line}: {p.text}" if p.line else f"{name}: {p.text}" for p in ordered]
        if len(lines) > MOST:
            lines = [*lines[:MOST], f"and {len(lines) - MOST} more"]
        super().__init__("\n".join(lines))
        self.problems = ordered


def quoted(text: object) -> str:
    """Show a text of unknown length and content in one line."""
    shown = str(text)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return repr(shown)
