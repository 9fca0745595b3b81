"""A service that does not get on says so within seconds, and that it does again."""

import re
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.conftest import TestDatabase
from tests.processes import SCHEDULER, WORKER, Cluster, Service, cluster, free_port
from tests.proxy import proxied
from tests.waiting import until

Answer = tuple[int, str]


async def ask(url: str) -> Answer:
    """Give status and words; (0, "") if nobody answers."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(url) as answer,
        ):
            return answer.status, (await answer.text()).strip()
    except aiohttp.ClientError:
        return 0, ""


def says(url: str, status: int) -> Callable[[], Awaitable[Answer | None]]:
    async def look() -> Answer | None:
        answer = await ask(url)
        return answer if answer[0] == status else None

    return look


@pytest.mark.parametrize("command", [SCHEDULER, WORKER], ids=["scheduler", "worker"])
async def test_who_cannot_reach_the_database_is_not_ready_until_it_can(
    database: TestDatabase, command: tuple[str, ...]
) -> None:
    async with proxied(database.address) as (proxy, through), cluster(database) as services:
        service, url = await begin(services, through.url, *command)
        await until(says(f"{url}/ready", 200), within=20)

        proxy.deaf = True
        await _says_what_is_missing(database, service, url)
        proxy.deaf = False

        await until(says(f"{url}/ready", 200), within=20)


async def _says_what_is_missing(database: TestDatabase, service: Service, url: str) -> None:
    since = await database.pool.fetchval("SELECT clock_timestamp()")
    answer = await until(says(f"{url}/ready", 503), within=20)
    took = await database.pool.fetchval("SELECT extract(epoch FROM clock_timestamp() - $1)", since)

    assert answer is not None
    assert re.fullmatch(r"(the database|the tick loop|it) has .* for \d+\.\d s", answer[1])
    assert took > 4
    assert await ask(f"{url}/live") == (200, "ok")
    assert service.running


async def test_a_scheduler_that_waits_for_its_database_is_live(database: TestDatabase) -> None:
    async with cluster(database) as services:
        nobody = f"postgresql://postgres@127.0.0.1:{free_port()}/none"
        _, url = await begin(services, nobody, *SCHEDULER)

        answer = await until(says(f"{url}/ready", 503))
        live = await ask(f"{url}/live")

    assert answer is not None
    assert "waits for the database" in answer[1]
    assert live == (200, "ok")


async def begin(services: Cluster, url: str, *command: str) -> tuple[Service, str]:
    port = free_port()
    env = {"DATABASE_URL": url, "QUARTERJACK_HEALTH": str(port)}
    return await services.start("one", *command, env=env), f"http://127.0.0.1:{port}"
