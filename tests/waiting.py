"""Wait for a state instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")


async def until(
    look: Callable[[], Awaitable[Value]], *, within: float = 10.0, every: float = 0.02
) -> Value:
    """Look again and again until the answer is truthy, and give it; TimeoutError after `within` s."""
    seen: Value | None = None
    try:
        async with asyncio.timeout(within):
            while not (seen := await look()):
                await asyncio.sleep(every)
            return seen
    except TimeoutError as error:
        raise TimeoutError(f"still {seen!r} after {within} s") from error
