"""Connect to the first of an address's hosts that will do: one that gives no answer hides no other."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import asyncpg

HOSTS = re.compile(r"(postgres(?:ql)?://(?:[^@/?#]*@)?)([^@/?#]+)(.*)", re.DOTALL)
NEXT = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.InternalClientError,  # it takes no writes, and some are wanted
)


async def connect(dsn: str | None = None, *, timeout: float = 5.0, **options: Any) -> Any:
    """Connect within the time, of which each host gets an equal share; what it leaves is for those after it."""
    loop, urls = asyncio.get_running_loop(), each_host(dsn or "")
    end = loop.time() + timeout
    for left in range(len(urls), 0, -1):
        share = (end - loop.time()) / left
        try:
            return await asyncpg.connect(urls[-left], timeout=share, **options)
        except NEXT:
            if left == 1:
                raise
    raise AssertionError("an address has a host")


def each_host(url: str) -> Sequence[str]:
    """Give an address for each host of this one."""
    if not (match := HOSTS.fullmatch(url)):
        return [url]
    before, hosts, after = match.groups()
    return [f"{before}{host}{after}" for host in hosts.split(",")]
