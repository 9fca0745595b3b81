"""YAML as a tree that knows its lines, from the events of the parser.

Nothing is constructed but JSON's values. Depth, size and what aliases multiply are bounded; duplicate keys and
tags are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from quarterjack.cli import scalars
from quarterjack.cli.problems import FileInvalid, Problem, quoted

DEEPEST = 60
MOST_NODES = 500_000
MOST_ALIASED = 50_000
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MERGE = "<<"
TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, a list of nodes or a mapping from texts to nodes, and the line that it begins on."""

    line: int
    value: "scalars.Scalar | list[Node] | dict[str, Node]"
    size: int = 1
    key_lines: dict[str, int] = field(default_factory=dict)

    def plain(self) -> Any:
        """Give the value without lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, *path: str) -> "Node | None":
        """Give what lies under these keys; None if there is nothing."""
        node = self
        for key in path:
            if not isinstance(node.value, dict) or key not in node.value:
                return None
            node = node.value[key]
        return node


def read_documents(name: str, text: str) -> list[Node]:
    """Give the documents of a YAML text; FileInvalid lists what is wrong."""
    documents, problems = read_leniently(name, text)
    if problems:
        raise FileInvalid(name, problems)
    return documents


def read_leniently(name: str, text: str) -> tuple[list[Node], list[Problem]]:
    """Give the documents and what is wrong inside them; FileInvalid if they cannot be read to the end."""
    reader = _Reader(yaml.parse(text, Loader=LOADER))
    try:
        documents = list(reader.documents())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        said = f"not YAML: {error.problem or error.context}"
        reader.problems.append(Problem(line=line, text=said))
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())[:200]
        reader.problems.append(Problem(line=0, text=f"not YAML: {said}"))
    except _Excess as error:
        reader.problems.append(error.problem)
    else:
        return documents, reader.problems
    raise FileInvalid(name, reader.problems)


class _Excess(Exception):
    """The text would take more than a schedule file may."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(line=line, text=text)


class _Reader:
    """Builds nodes from events, and remembers what is wrong on the way."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.problems: list[Problem] = []
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._aliased = 0

    def documents(self) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                yield self._node(next(self._events), 0)

    def _node(self, event: Any, depth: int) -> Node:
        line = event.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _Excess(line, f"more than {MOST_NODES} values: split the file")
        if depth > DEEPEST:
            raise _Excess(line, f"nested deeper than {DEEPEST} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(line, self._scalar(event, line))
        else:
            self._refuse_tag(event, line)
            is_list = isinstance(event, yaml.SequenceStartEvent)
            node = self._list(line, depth) if is_list else self._mapping(line, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, line: int) -> Node:
        node = self._anchors.get(anchor)
        if node is None:
            self._complain(line, f"the alias *{anchor[:40]} has no anchor &{anchor[:40]} before it")
            return Node(line, None)
        self._aliased += node.size
        if self._aliased > MOST_ALIASED:
            raise _Excess(
                line, f"aliases stand for more than {MOST_ALIASED} values: write less of them"
            )
        return node

    def _scalar(self, event: Any, line: int) -> scalars.Scalar:
        text: str = event.value
        if event.tag not in TEXT_TAGS:
            self._refuse_tag(event, line)
        elif event.tag is None and not event.style:
            try:
                return scalars.read(text)
            except scalars.AmbiguousScalar as error:
                self._complain(line, str(error))
        return text

    def _list(self, line: int, depth: int) -> Node:
        nodes = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            nodes.append(self._node(event, depth + 1))
        return Node(line, nodes, 1 + sum(node.size for node in nodes))

    def _mapping(self, line: int, depth: int) -> Node:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            at = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                self._node(event, depth + 1)
                self._node(next(self._events), depth + 1)
                self._complain(at, "a key must be a text")
                continue
            key = event.value
            node = self._node(next(self._events), depth + 1)
            if key == MERGE and not event.style:
                merged = self._merged(node, at) | merged
            elif key in own:
                self._complain(at, f"{quoted(key)} is given twice, first in line {lines[key]}")
            else:
                own[key], lines[key] = node, at
        whole = merged | own
        return Node(line, whole, 1 + sum(node.size for node in whole.values()), lines)

    def _merged(self, node: Node, line: int) -> dict[str, Node]:
        """Give what `<<` brings in; of several mappings the first wins."""
        parts = node.value if isinstance(node.value, list) else [node]
        found: dict[str, Node] = {}
        for part in parts:
            if isinstance(part.value, dict):
                found = part.value | found
            else:
                self._complain(line, "<< takes a mapping, such as <<: *defaults")
        return found

    def _refuse_tag(self, event: Any, line: int) -> None:
        if event.tag not in TEXT_TAGS[:2] and not str(event.tag).endswith((":map", ":seq")):
            self._complain(line, f"the tag {quoted(event.tag)} has no meaning here: take it out")

    def _complain(self, line: int, text: str) -> None:
        self.problems.append(Problem(line=line, text=text))
