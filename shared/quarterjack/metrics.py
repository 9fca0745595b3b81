"""Measures of a service, in the text format of Prometheus."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number: a counter if its name ends in `_total`, otherwise a gauge."""

    name: str
    about: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def written(measures: Iterable[Measure]) -> str:
    """Write measures; those of one name stand together."""
    lines = []
    for name, group in groupby(measures, key=lambda measure: measure.name):
        first, *others = group
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {name} {first.about}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_labels(each)} {each.value:.15g}" for each in (first, *others)]
    return "\n".join(lines)


def _labels(measure: Measure) -> str:
    pairs = [f'{name}="{value.translate(ESCAPED)}"' for name, value in measure.labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""
