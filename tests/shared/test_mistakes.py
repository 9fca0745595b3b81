"""What is wrong with the settings of a program is said in one line, with what to do."""

import asyncio
import os
import sys
from dataclasses import replace

import pytest

from quarterjack.database import connect, open_pool
from quarterjack.errors import SettingInvalid
from quarterjack.process import switched_on
from tests.conftest import TestDatabase
from tests.processes import SCHEDULER, WORKER

MIGRATE, ADMIN = ("quarterjack.migrate",), ("quarterjack_admin", "--port", "8080")
LINK = ("quarterjack_admin", "sign-in-link", "--base-url", "http://127.0.0.1:8080")
PROGRAMS = [MIGRATE, ADMIN, LINK, SCHEDULER, WORKER]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("mysql://ana:s3cret@127.0.0.1/app", "scheme is expected"),
        ("postgresql+asyncpg://ana:s3cret@127.0.0.1/app", "scheme is expected"),
        ("postgresql://ana:s3cret@127.0.0.1:99999/app", "%23"),
        ("postgresql://ana:s3cret@127.0.0.1:port/app", "%23"),
        ("postgresql://ana:s3cret#a@127.0.0.1/app", "%23"),
        ("postgresql://ana:s3cret@127.0.0.1/app?sslmode=always", "sslmode"),
    ],
)
async def test_a_wrong_address_is_said_without_its_password(
    database: TestDatabase, wrong: str, said: str
) -> None:
    address = replace(database.address, url=wrong, direct_url=wrong)

    with pytest.raises(SettingInvalid, match=said) as directly:
        await connect(address, name="test")
    with pytest.raises(SettingInvalid, match=said) as pooled:
        async with open_pool(address, name="test"):
            pass

    for refusal in (directly, pooled):
        assert "s3cret" not in str(refusal.value)
        assert refusal.value.__suppress_context__


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
async def test_each_program_says_in_one_line_what_keeps_it_from_starting(
    database: TestDatabase, program: tuple[str, ...]
) -> None:
    role = f"{database.address.url.rpartition('/')[2]}_nobody"
    await database.pool.execute(f'CREATE ROLE "{role}" LOGIN')
    address = database.url.partition("://")[2].rpartition("@")[2]
    host, _, name = address.partition("/")
    wrong = {
        f"{database.url}_other": "does not exist",
        f"postgresql://{role}_other@{address}": "does not exist",
        f"postgresql://{role}@{host}/{name}": "the documentation's page Security",
    }

    said = [await run({"DATABASE_URL": url}, *program) for url in wrong]

    for words, wanted in zip(said, wrong.values(), strict=True):
        assert wanted in words
        assert words.count("\n") == 1
    await database.pool.execute(f'DROP ROLE "{role}"')


@pytest.mark.parametrize(
    ("name", "program"),
    [("QUARTERJACK_STATEMENT_CACHE", SCHEDULER), ("QUARTERJACK_TELEMETRY", WORKER)],
)
async def test_a_setting_that_cannot_be_read_is_named(
    database: TestDatabase, name: str, program: tuple[str, ...]
) -> None:
    said = await run({"DATABASE_URL": database.url, name: "perhaps"}, *program)

    assert f"{name} is 'perhaps'" in said.splitlines()[-1]


async def test_a_port_in_use_is_not_taken_for_the_database(database: TestDatabase) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as taken:
        port = str(taken.sockets[0].getsockname()[1])

        said = await run({"DATABASE_URL": database.url}, "quarterjack_admin", "--port", port)

    assert said.startswith(f"quarterjack-admin: cannot listen on 127.0.0.1 port {port}: ")


async def test_a_link_needs_an_address_that_a_browser_can_open(database: TestDatabase) -> None:
    said = await run({"DATABASE_URL": database.url}, *LINK[:-1], "jobs.example.org")

    assert "--base-url is 'jobs.example.org'" in said


async def test_who_waits_for_the_database_says_so(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = replace(database.address, url="postgresql://ana@127.0.0.1:1/app")

    with pytest.raises(ConnectionRefusedError):
        async with open_pool(nowhere, name="test", patience=0.2):
            pass

    assert [record.getMessage()[:15] for record in caplog.records] == ["no database yet"]


@pytest.mark.parametrize(("value", "on"), [("on", True), ("1", True), ("OFF", False), ("", False)])
def test_a_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    monkeypatch.setenv("A_SWITCH", value)

    assert switched_on("A_SWITCH") is on


async def run(settings: dict[str, str], *program: str) -> str:
    """Give what a program says that must end by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *program),
        env=os.environ | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 1
    return said.decode()
