"""The listener hears, survives garbage, and comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from quarterjack.database import Database
from quarterjack.listener import Listener
from quarterjack.queries import notifications
from tests.conftest import TestDatabase
from tests.waiting import until


@asynccontextmanager
async def listening(
    database: TestDatabase,
) -> AsyncIterator[tuple[Listener, "asyncio.Queue[tuple[str, dict[str, Any]]]", list[int]]]:
    heard: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
    gaps: list[int] = []
    listener = Listener(
        database.address,
        database.pool,
        ("oban_insert", "qj_schedules"),
        heard=lambda name, message: heard.put_nowait((name, message)),
        gap=lambda: gaps.append(1),
        who="test-listener",
    )
    task = asyncio.create_task(listener.run())
    try:
        await until(lambda: _is(listener.connected))
        yield listener, heard, gaps
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_gives_name_and_object(database: TestDatabase) -> None:
    async with listening(database) as (_, heard, _gaps):
        await database.pool.execute("""SELECT pg_notify('public.oban_insert', '{"queue": "q"}')""")

        async with asyncio.timeout(5):
            assert await heard.get() == ("oban_insert", {"queue": "q"})


async def test_garbage_is_counted_and_means_look_for_yourself(database: TestDatabase) -> None:
    async with listening(database) as (listener, heard, gaps):
        before = len(gaps)
        for payload in (
            "",
            "nonsense",
            "[1]",
            '"x"',
            "Z:H4sIAAAA",
            "H4sIAAAA",
            "[" * 5000,
            "x" * 7999,
        ):
            await database.pool.execute("SELECT pg_notify('public.oban_insert', $1)", payload)
        await database.pool.execute("""SELECT pg_notify('public.oban_insert', '{"queue": "q"}')""")

        async with asyncio.timeout(5):
            assert await heard.get() == ("oban_insert", {"queue": "q"})
        assert listener.ignored == 8
        assert len(gaps) == before + 8


async def test_a_lost_connection_comes_back_and_tells_of_the_gap(database: TestDatabase) -> None:
    async with listening(database) as (_, heard, gaps):
        await database.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test-listener'"
        )
        await until(lambda: _is(len(gaps) >= 2))
        await database.pool.execute("""SELECT pg_notify('public.qj_schedules', '{"id": 1}')""")

        async with asyncio.timeout(5):
            assert await heard.get() == ("qj_schedules", {"id": 1})


async def test_it_hears_itself_in_a_schema_with_the_longest_name(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterjack.listener.CANARY_EVERY", 0.001)
    sent: list[str] = []
    send = notifications.send

    async def counted(db: Database, channel: str, payload: str) -> None:
        sent.append(channel)
        await send(db, channel, payload)

    monkeypatch.setattr(notifications, "send", counted)
    longest = replace(database, address=replace(database.address, schema="s" * 40))
    async with listening(longest) as (_, _heard, gaps):
        await until(lambda: _is(len(sent) > 2))

        assert gaps == [1]


async def _is(value: object) -> bool:
    return bool(value)
