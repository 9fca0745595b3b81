"""Handlers that tests run in real workers."""

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta

from quarterjack_worker import Context, job


@dataclass(frozen=True)
class Numbered:
    n: int = 0


@job("count")
async def count(args: Numbered) -> None:
    """Do nothing."""


@job("wait_for_release", timeout=timedelta(minutes=5))
async def wait_for_release(args: Numbered, context: Context) -> None:
    """Run until a table called released exists."""
    while not await context.pool.fetchval("SELECT to_regclass('released') IS NOT NULL"):
        await asyncio.sleep(0.05)


@job("die", max_attempts=2)
async def die(args: Numbered) -> None:
    """Take the whole process down."""
    os._exit(7)
