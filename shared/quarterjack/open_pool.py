"""A pool for any number of users of one process."""

import os
from typing import Any, NoReturn

import asyncpg


class OpenPool(asyncpg.Pool):
    """A pool that is open: none of its users closes it, takes it for a connection, or carries it over a fork."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.opened_by = os.getpid()

    async def __aenter__(self) -> NoReturn:
        raise TypeError(
            "a pool is no connection, and this one is open: write `async with pool.acquire() as connection`"
        )

    async def close(self) -> NoReturn:
        raise TypeError(
            "others use this pool too: it is closed by who opened it, at the end of its block"
        )
