"""Write schedules as our YAML: what other readers would take for no text is quoted, notes are comments."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from quarterjack.cli import scalars

WIDTH = 100
BLOCK = re.compile(r"\S.*[^\n]\n?", re.DOTALL)  # without blank lines at its edges
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]+")


class _Dumper(yaml.SafeDumper):
    """Gives lists their indentation and writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=_style(value))


def _style(value: str) -> str | None:
    if UNPRINTABLE.search(value.replace("\n", "")):
        return '"'
    if "\n" in value:
        return "|" if BLOCK.fullmatch(value) else '"'
    return None if scalars.is_plain_text(value) else "'"


_Dumper.add_representer(str, _text)


def comment(text: str, indent: str = "") -> str:
    """Write one comment line; what could end it is taken out."""
    return f"{indent}# {UNPRINTABLE.sub(' ', text).strip()}\n"


def write_schedules(
    schedules: Mapping[str, Mapping[str, Any]],
    *,
    head: Sequence[str] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
    source: str | None = None,
) -> str:
    """Give the text of a file with these schedules, in their order."""
    parts = [comment(line) for line in head]
    if source is not None:
        parts.append(_dump({"source": source}))
    parts.append("schedules:\n" if schedules else "schedules: {}\n")
    for name, fields in schedules.items():
        parts += [comment(note, "  ") for note in (notes or {}).get(name, ())]
        block = _dump({name: dict(fields)})
        parts += [f"  {line}\n" if line else "\n" for line in block.split("\n")[:-1]]
    return "".join(parts)


def _dump(value: Mapping[str, Any]) -> str:
    return yaml.dump(
        dict(value),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=WIDTH,
        default_flow_style=False,
    )
