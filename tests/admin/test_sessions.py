"""Sessions end, links tell nothing to guessers, and nobody fills memory or audit."""

import asyncio

import pytest

from tests.admin.conftest import PASSWORD, Admin, link


async def test_a_link_that_is_none_tells_nothing_and_costs_little(admin: Admin) -> None:
    await admin.signed_in("rosalind")
    visitor = await admin.visitor()

    first = await visitor.post("/link/guessed", {"password": "short"})
    more = [await visitor.post("/link/guessed", {"password": PASSWORD}) for _ in range(20)]

    assert first.status == 410
    assert "rosalind" not in first.html
    assert more[-1].status == 429


async def test_a_password_from_a_link_ends_the_sessions_of_whoever_has_the_old_one(
    admin: Admin,
) -> None:
    thief = await admin.signed_in("ana")
    owner = await admin.visitor()
    entered = await owner.post(await link(admin.database), {"password": f"{PASSWORD} anew"})

    assert entered.path == "/schedules"
    assert (await owner.get("/schedules")).path == "/schedules"
    assert (await thief.get("/schedules")).path.startswith("/sign-in")


@pytest.mark.parametrize(
    ("change", "open"),
    [
        ("expires_at = now()", False),
        ("seen_at = now() - interval '31 minutes'", False),
        ("seen_at = now() - interval '29 minutes'", True),
    ],
)
async def test_a_session_ends_by_itself(admin: Admin, change: str, open: bool) -> None:
    visitor = await admin.signed_in()
    await admin.database.pool.execute(f"UPDATE qj_sessions SET {change}")

    assert ((await visitor.get("/schedules")).path == "/schedules") is open


async def test_a_page_that_refreshes_itself_keeps_no_session_open(admin: Admin) -> None:
    visitor = await admin.signed_in()
    await admin.database.pool.execute(
        "UPDATE qj_sessions SET seen_at = now() - interval '1 minute'"
    )
    refreshed = await visitor.get("/schedules", **{"HX-Request": "true"})

    recent = "SELECT count(*) FROM qj_sessions WHERE seen_at > now() - interval '30 seconds'"
    assert refreshed.status == 200
    assert await admin.database.pool.fetchval(recent) == 0
    await visitor.get("/schedules")
    assert await admin.database.pool.fetchval(recent) == 1


async def test_what_is_denied_fills_no_audit(admin: Admin) -> None:
    visitor = await admin.signed_in("val", "viewer")

    seen = [(await visitor.get("/freeze")).status for _ in range(80)]

    assert {403, 429} == set(seen)
    assert await admin.database.pool.fetchval("SELECT count(*) FROM qj_audit") < 80


async def test_no_page_leads_to_the_host_that_its_address_seems_to_name(admin: Admin) -> None:
    port = int(admin.origin.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = f"GET //evil.example/x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    writer.write(asked.encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()

    assert "There is no such page" in answer
    assert "evil.example" not in answer
