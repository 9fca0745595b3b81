"""Queues in the admin: steered by those who may, kept, told to every Oban, and written down."""

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from yarl import URL

from quarterjack.queries import queues
from quarterjack.queries.queues import ALL
from quarterjack_admin.app import POOL_SIZE
from tests.admin.conftest import Admin
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.waiting import until

WORKERS = """
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, running)
SELECT gen_random_uuid(), 'Oban', node, 1, '0', 'sums', 10, 3 FROM unnest('{w-1,w-2}'::text[]) AS node
"""


async def test_it_is_kept_told_and_audited(admin: Admin) -> None:
    heard: list[dict[str, Any]] = []
    listening = await asyncpg.connect(admin.database.url)
    await listening.add_listener(
        "public.oban_signal", lambda *told: heard.append(json.loads(str(told[3])))
    )
    await admin.database.pool.execute(WORKERS)
    ana = await admin.signed_in()
    asked = [
        ("pause", {"reason": "disk full"}),
        ("scale", {"reason": "slow", "limit": "4", "node": "w-2"}),
        ("resume", {"reason": "disk is fine"}),
        ("stop", {"reason": "moves"}),
        ("start", {"reason": "moved"}),
        ("scale", {"reason": "as before", "limit": ""}),
    ]
    for verb, fields in asked:
        assert (await ana.post(f"/queues/sums/{verb}", fields)).status == 200

    await until(lambda: _true(len(heard) == 4))
    await listening.close()
    assert heard == [
        {"action": "pause", "queue": "sums", "ident": "any"},
        {"action": "scale", "limit": 4, "queue": "sums", "ident": "Oban.w-2"},
        {"action": "resume", "queue": "sums", "ident": "any"},
        {"action": "stop", "queue": "sums", "ident": "any"},
    ]
    everyone, one = await queues.steered(admin.database.pool, "sums")
    assert (everyone.node, everyone.paused, everyone.stopped) == (ALL, False, False)
    assert (everyone.changed_by, everyone.reason) == ("ana", "as before")
    assert (one.node, one.local_limit) == ("w-2", None)
    rows = await admin.database.pool.fetch(
        "SELECT action, reason, after FROM qj_audit WHERE target = 'sums' ORDER BY id"
    )
    assert [row["reason"] for row in rows] == [fields["reason"] for _, fields in asked]
    assert rows[1]["after"] == {"node": "w-2", "limit": 4}


@pytest.mark.parametrize(
    ("verb", "fields", "said"),
    [
        ("pause", {"reason": " "}, "Say why"),
        ("scale", {"reason": "x", "limit": "0"}, "give 1 to 10000"),
        ("scale", {"reason": "x", "limit": "3.5"}, "give 1 to 10000"),
        ("pause", {"reason": "x", "node": "w-9"}, "No worker w-9 has this queue."),
    ],
)
async def test_what_cannot_be_is_told(
    admin: Admin, verb: str, fields: dict[str, str], said: str
) -> None:
    await admin.database.pool.execute(WORKERS)
    ana = await admin.signed_in()
    page = await ana.post(f"/queues/sums/{verb}", fields)

    assert (page.status, said in page.text) == (422, True), page.text
    assert "hx-get" not in page.html
    assert page.field("reason") == fields["reason"].strip()
    assert (await ana.get(f"/queues/sums/{verb}")).path == "/queues/sums"
    assert await queues.steered(admin.database.pool, "sums") == []


async def test_what_another_has_asked_meanwhile_is_not_overwritten(admin: Admin) -> None:
    ana, ben = await admin.signed_in(), await admin.signed_in("ben")
    seen = {"seen": (await ben.get("/queues/sums")).field("seen")}
    await ana.get("/queues/sums")
    await ana.post("/queues/sums/scale", seen | {"limit": "4", "reason": "it is slow"})

    late = {"limit": "9", "reason": "it is late"}
    told = await ben.post("/queues/sums/scale", late | seen)
    [kept] = await queues.steered(admin.database.pool, "sums")
    again = await ben.post("/queues/sums/scale", late | {"seen": told.field("seen")})

    assert (told.status, "Somebody asked for something else" in told.text) == (422, True)
    assert "by ana: it is slow" in told.text
    assert (told.field("limit"), told.field("reason")) == ("9", "it is late")
    assert (kept.local_limit, kept.changed_by) == (4, "ana")
    assert "by ben: it is late" in again.text


async def test_what_was_asked_of_a_node_that_is_away_is_shown_and_can_be_ended(
    admin: Admin,
) -> None:
    await admin.database.pool.execute(WORKERS)
    ana = await admin.signed_in()
    await ana.post("/queues/sums/pause", {"reason": "disk full", "node": "w-2"})
    await ana.post("/queues/sums/scale", {"reason": "slow", "node": "w-2", "limit": "2"})
    assert "is away" not in (await ana.get("/queues/sums")).text
    await admin.database.pool.execute("DELETE FROM qj_producers WHERE node = 'w-2'")

    page = await ana.get("/queues/sums")
    resumed = await ana.post("/queues/sums/resume", {"reason": "disk is fine", "node": "w-2"})
    ended = await ana.post("/queues/sums/resume", {"reason": "all fine"})
    scaled = await ana.post("/queues/sums/scale", {"reason": "as before", "limit": ""})

    assert "w-2 is away. Asked of it: paused, up to 2;" in page.text
    assert 'value="w-2"' in page.html
    assert "Asked of it: resumed, up to 2;" in resumed.text
    assert "Asked of it: up to 2;" in ended.text
    assert "is away" not in scaled.text


async def test_each_role_steers_as_it_may(admin: Admin) -> None:
    viewer, operator = (
        await admin.signed_in("vi", "viewer"),
        await admin.signed_in("op", "operator"),
    )
    verbs = ("pause", "resume", "scale", "stop", "start", "limits")

    found = [(await operator.post(f"/queues/q/{verb}", {"reason": "x"})).status for verb in verbs]

    assert found == [200, 200, 403, 403, 403, 403]
    assert (await viewer.post("/queues/q/pause", {"reason": "x"})).status == 403
    assert "<button" not in (await viewer.get("/queues/q")).html.partition('id="main"')[2]


@pytest.mark.parametrize("name", ["a/b", "ä ö?&#", "%2e%2e", "{a}"])
async def test_any_name_has_a_page(admin: Admin, name: str) -> None:
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, queue) VALUES ('w', $1)", name
    )
    ana = await admin.signed_in()

    page = await ana.get("/queues")
    link = f"/queues/{quote(name, safe='')}"
    assert f'href="{link}"' in page.html
    asked = await ana.session.post(
        URL(f"{ana.origin}{link}/pause", encoded=True),
        data={"csrf_token": ana.csrf, "reason": "x"},
        headers={"Origin": ana.origin},
    )
    assert asked.status == 200
    assert [each.paused for each in await queues.steered(admin.database.pool, name)] == [True]


async def test_its_oldest_job_may_be_of_any_priority(admin: Admin) -> None:
    pool = admin.database.pool
    await pool.execute(
        """
        INSERT INTO oban_jobs (worker, queue, priority, scheduled_at)
        SELECT 'count', 'sums', priority, '2026-01-01'::timestamp - priority * interval '1 day'
        FROM unnest('{0,0,9,12}'::int[]) AS priority
        """
    )
    await pool.execute(
        "INSERT INTO oban_jobs (worker, queue, scheduled_at) VALUES ('x', 'odd', '-infinity')"
    )

    await pool.execute("INSERT INTO qj_queues (queue, changed_by) VALUES ('empty', 'ana')")

    sums, odd, empty = sorted(
        await queues.standings(pool),
        key=lambda each: ("sums", "odd", "empty").index(each.queue),
    )

    assert (sums.available, odd.available) == (4, 1)
    assert (empty.available, empty.oldest_at) == (0, None)
    assert sums.oldest_at == datetime(2025, 12, 20, tzinfo=UTC)
    assert odd.oldest_at == datetime(1, 1, 3, tzinfo=UTC)


async def test_all_are_listed_page_by_page(admin: Admin) -> None:
    pool = admin.database.pool
    await pool.execute(
        "INSERT INTO oban_jobs (worker, queue) SELECT 'x', 'q&' || n FROM generate_series(1001, 1250) AS n"
    )
    await pool.execute(
        "INSERT INTO qj_queues (queue, changed_by) SELECT 'q&' || n, 'ana' FROM generate_series(1200, 1400) AS n"
    )
    ana, address, seen = await admin.signed_in(), "/queues", list[str]()
    while address:
        page = await ana.get(address)
        seen += re.findall(r'class="name" href="/queues/q%26(\d+)"', page.html)
        following = re.search(r'href="(/queues\?after=[^"]+)" rel="next"', page.html)
        address = following[1] if following else ""
        assert ('rel="prev"' in page.html) is (seen[0] != "1001" or len(seen) > 200)

    assert seen == [str(number) for number in range(1001, 1401)]
    assert "No queue comes after" in (await ana.get("/queues?after=r")).text


async def test_a_worker_follows_and_the_page_says_so(database: TestDatabase, admin: Admin) -> None:
    ana = await admin.signed_in()
    async with cluster(database) as running:
        await running.worker("worker-1", import_="tests.jobs", queues="default=5")
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM oban_producers"))
        await ana.post("/queues/default/pause", {"reason": "disk full"})

        async def confirmed() -> bool:
            page = await ana.get("/queues/default")
            return "1 of 1 stand as was asked" in page.text and "0 of 5" in page.text

        await until(confirmed)
        assert "disk full" in (await ana.get("/queues/default")).text
        await until(lambda: database.pool.fetchval("SELECT paused FROM qj_producers"))


async def _true(value: bool) -> bool:
    await asyncio.sleep(0)
    return value


@pytest.mark.parametrize(
    ("form", "fields"),
    [("pause", {"node": "gone"}), ("limits", {"global_limit": "3", "seen": "others"})],
)
async def test_many_refusals_at_once_keep_no_connection_from_others(
    admin: Admin, form: str, fields: dict[str, str]
) -> None:
    ana = await admin.signed_in()
    paths = [f"/queues/sums-{n}/{form}" for n in range(POOL_SIZE * 2)]

    async with asyncio.timeout(30):
        pages = await asyncio.gather(*(ana.post(path, fields | {"reason": "x"}) for path in paths))

    assert {page.status for page in pages} == {422}
