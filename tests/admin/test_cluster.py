"""The cluster's page, and that of a queue, where there are thousands of workers."""

from quarterjack.queries import cluster
from tests.admin.conftest import Admin

MANY = """
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, running)
SELECT gen_random_uuid(), 'Oban', 'node-' || n, 1, '0', CASE WHEN n < 9999 THEN 'many' ELSE 'last' END, 10, 3
FROM generate_series(8800, 9999) AS n
"""


async def test_a_queue_shows_and_steers_its_workers_however_many_others_there_are(
    admin: Admin,
) -> None:
    await admin.database.pool.execute(MANY)
    visitor = await admin.signed_in()

    page = await visitor.get("/queues/last")
    asked = await visitor.post("/queues/last/pause", {"node": "node-9999", "reason": "full"})

    assert ("node-9999" in page.text, "node-9998" in page.text) == (True, False)
    assert asked.status == 200
    assert await admin.database.pool.fetchval(
        "SELECT paused FROM qj_queues WHERE queue = 'last' AND node = 'node-9999'"
    )


async def test_the_cluster_is_shown_a_page_at_a_time_and_counted_whole(admin: Admin) -> None:
    await admin.database.pool.execute(MANY)
    visitor = await admin.signed_in("vera", "viewer")

    first, last, beyond = [
        await visitor.get(f"/cluster{query}") for query in ("", "?page=6", "?page=7")
    ]

    assert "Workers 1200 2 queues served" in first.text
    assert ("node-8999" in first.text, "node-9000" in first.text) == (True, False)
    assert 'href="/cluster?page=2"' in first.html
    assert "node-9999" in last.text
    assert "/cluster?page=7" not in last.html.partition('<nav class="pager"')[2]
    assert "There are no more." in beyond.text


SERVED = """
WITH made AS (
  INSERT INTO qj_schedules (name, worker, cron, queue)
  SELECT 's' || n, 'sum', '@daily', 'q' || n FROM generate_series(1, 3000) AS n
)
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit)
SELECT gen_random_uuid(), 'Oban', 'node-' || n, 1, '0', 'q' || n, 10 FROM generate_series(1, 3000) AS n
"""


async def test_thousands_of_served_queues_are_looked_up_at_once(admin: Admin) -> None:
    pool = admin.database.pool
    await pool.execute(SERVED)
    async with pool.acquire() as connection, connection.transaction():
        await cluster.limit_reads(connection, milliseconds=500)

        found = await cluster.unserved_queues(connection)

    assert found == []
