"""Jobs that wait for others: what is checked and written besides their rows when they are inserted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quarterjack.database import Connection
from quarterjack.errors import JobInvalid
from quarterjack.model import Enqueued, Row
from quarterjack.queries import flows
from quarterjack.queries.flows import Edge
from quarterjack.unique import are_texts

ENDS = ("cancelled", "discarded", "deleted")
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Of the jobs of one insert, the one at the place `child` waits for that at `parent`, which is called `name`."""

    parent: int
    child: int
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ties:
    """What jobs of one insert have to do with each other; `marks` is their meta that Quarterjack writes, by place.

    `late` means that nobody can be told any more that a parent does not exist: it counts as deleted.
    """

    links: Sequence[Link] = ()
    marks: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    late: bool = False


NO_TIES = Ties()


def read_after(after: object, even_if: Any) -> tuple[int, ...]:
    """Give the ids once each; JobInvalid if they are none, or `even_if` names what is no end."""
    if not are_texts(even_if) or set(even_if) - set(ENDS):
        raise JobInvalid(f"even_if is {even_if!r:.60}: choose from {', '.join(ENDS)}")
    if isinstance(after, str) or not isinstance(after, Collection):
        raise JobInvalid(f"after is {after!r:.60}: give a list of ids of jobs")
    for id in after:
        if type(id) is not int or not 0 < id <= LARGEST:
            raise JobInvalid(f"after holds {id!r:.60}: give ids of jobs")
    return tuple(dict.fromkeys(after))


async def look(connection: Connection, rows: Sequence[Row], ties: Ties) -> Mapping[int, str | None]:
    """Look at the jobs that new ones wait for: how each has ended, None if it has not. JobInvalid if one is missing."""
    wanted = {id for row in rows for id in row.get("after", ())}
    if not wanted:
        return {}
    found = await flows.outcomes(connection, wanted)
    gone = sorted(wanted - found.keys())
    if gone and not ties.late:
        raise JobInvalid(
            f"after names job {gone[0]}, which does not exist: it was deleted, or is not committed yet. "
            "Leave it out, or enqueue both in one transaction"
        )
    return found | dict.fromkeys(gone, "deleted")


async def tie(
    connection: Connection,
    rows: Sequence[Row],
    results: Sequence[Enqueued],
    ties: Ties,
    looks: Mapping[int, str | None],
) -> None:
    """Write what the inserted jobs wait for."""
    ids = {place: result.id for place, result in enumerate(results) if result.id is not None}
    edges = [
        Edge(parent=parent, child=ids[place], even_if=row["even_if"])
        for place, row in enumerate(rows)
        for parent in row.get("after", ())
    ]
    edges += [
        Edge(
            parent=ids[link.parent],
            child=ids[link.child],
            name=link.name,
            even_if=rows[link.child].get("even_if", ()),
        )
        for link in ties.links
    ]
    await flows.link(connection, edges, looks)
