"""What a job waited for, with the results, page by page."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from quarterjack.database import Pool
from quarterjack.queries import flows

PAGE = 500

Read: TypeAlias = Callable[[int], Coroutine[Any, Any, list[dict[str, Any]]]]
"""Gives the page of parents beyond an id; an empty one is the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A job that this one waited for.

    `name` is what it is called in their workflow, if they are in one. `outcome` is completed, cancelled, discarded or
    deleted; None if it has not ended, since somebody had this job run before. `result` is what its handler returned, if
    its type is `recorded` and its row is still there.
    """

    id: int
    name: str | None
    outcome: str | None
    result: Any


class Parents:
    """The parents of a job, by their ids: for `async for`, and in a thread for `for`."""

    def __init__(
        self,
        read: Read,
        run: Callable[[Coroutine[Any, Any, list[Parent]]], list[Parent]],
    ) -> None:
        self._read = read
        self._run = run

    async def __aiter__(self) -> AsyncIterator[Parent]:
        last = 0
        while page := await self._page(last):
            for parent in page:
                yield parent
            last = page[-1].id

    def __iter__(self) -> Iterator[Parent]:
        last = 0
        while page := self._run(self._page(last)):
            yield from page
            last = page[-1].id

    async def _page(self, last: int) -> list[Parent]:
        return [Parent(**row) for row in await self._read(last)]


async def read_page(pool: Pool, child: int, beyond: int) -> list[dict[str, Any]]:
    """Give the first parents of a job beyond an id."""
    return await flows.parents_of(pool, child, beyond=beyond, limit=PAGE)
