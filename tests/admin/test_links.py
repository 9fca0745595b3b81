"""Accounts are made, and let in, by one-time links from the command line."""

import asyncio
import os
import sys

import pytest

from tests.admin.conftest import PASSWORD, Admin
from tests.conftest import TestDatabase

BASE = "http://127.0.0.1:8080"


async def asked(database: TestDatabase, *arguments: str) -> tuple[int, str]:
    """Run the command; its exit code, and the path of its link or what it says of a mistake."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "quarterjack_admin", "sign-in-link", "--base-url", BASE),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ
        | {"DATABASE_URL": database.url, "QUARTERJACK_SCHEMA": database.address.schema},
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode().strip().removeprefix(BASE)


async def test_a_link_makes_an_account_with_its_role(admin: Admin) -> None:
    await admin.signed_in()
    code, path = await asked(admin.database, "--name", "Bea", "--role", "operator")
    visitor = await admin.visitor()
    looked = await visitor.get(path)
    entered = await visitor.post(path, {"password": PASSWORD})

    assert code == 0
    assert "Welcome This link is for bea . It works once" in looked.text
    assert entered.path == "/schedules"
    assert (await visitor.post(path)).status == 410
    assert (await (await admin.visitor()).sign_in("bea")).path == "/schedules"
    role = await admin.database.pool.fetchval("SELECT role FROM qj_users WHERE name = 'bea'")
    assert role == "operator"
    audit = await admin.database.row("SELECT * FROM qj_audit WHERE action = 'give role'")
    assert (audit["target"], audit["before"], audit["after"]) == ("bea", None, {"role": "operator"})


async def test_a_link_changes_a_role_and_leaves_the_password(admin: Admin) -> None:
    _, path = await asked(admin.database, "--name", "bea", "--role", "viewer")
    await (await admin.visitor()).post(path, {"password": PASSWORD})
    code, path = await asked(admin.database, "--name", "bea", "--role", "admin")

    assert code == 0
    assert "Welcome back" in (await (await admin.visitor()).get(path)).text
    assert (await (await admin.visitor()).post(path)).path == "/schedules"
    assert (await (await admin.visitor()).sign_in("bea")).path == "/schedules"
    role = await admin.database.pool.fetchval("SELECT role FROM qj_users WHERE name = 'bea'")
    assert role == "admin"


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ("SELECT", ("--name", "bea"), "add --role, and it is made"),
        ("SELECT", ("--role", "viewer"), "--role needs --name"),
        ("SELECT", ("--name", "a\nb", "--role", "viewer"), "printable characters"),
        ("SELECT", ("--name", " ", "--role", "viewer"), "1 to 127"),
        ("SELECT", ("--name", "bea", "--role", "boss"), "invalid choice: 'boss'"),
        (
            "INSERT INTO qj_users (name, disabled_at) VALUES ('bea', now())",
            ("--name", "bea", "--role", "admin"),
            "is disabled",
        ),
    ],
)
async def test_a_mistake_makes_nothing(
    database: TestDatabase, change: str, arguments: tuple[str, ...], said: str
) -> None:
    await database.pool.execute(change)
    code, answer = await asked(database, *arguments)

    assert code != 0
    assert said in answer
    assert "Traceback" not in answer
    assert await database.pool.fetchval("SELECT count(*) FROM qj_sign_in_links") == 0
    assert await database.pool.fetchval("SELECT count(*) FROM qj_users WHERE role = 'admin'") == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE qj_users SET disabled_at = now() WHERE name = 'bea'",
        "DELETE FROM qj_users WHERE name = 'bea'",
    ],
)
async def test_a_link_of_an_account_that_is_out_lets_nobody_in(admin: Admin, change: str) -> None:
    await admin.signed_in()
    _, path = await asked(admin.database, "--name", "bea", "--role", "admin")
    await admin.database.pool.execute(change)
    visitor = await admin.visitor()

    assert (await visitor.get(path)).status == 410
    assert (await visitor.post(path, {"password": PASSWORD})).status == 410
    assert (await (await admin.visitor()).sign_in("bea")).status == 422
