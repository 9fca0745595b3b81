"""A process without its loops, for the tests of what it holds."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from quarterjack_worker.queues import Queues
from tests.conftest import TestDatabase
from tests.worker.holding import Holding, ran
from tests.worker.test_claims import producer


@pytest.fixture
async def holding(database: TestDatabase) -> AsyncIterator[Holding]:
    ran.clear()
    uuid = await producer(database)
    with ThreadPoolExecutor(1) as threads:
        yield Holding(database, Queues({"default": 1000}, {"default": uuid}, "n"), threads)
