"""Many jobs at once: what was counted, no more, by those who may."""

from collections import Counter

import asyncpg
import pytest

from quarterjack.queries import bulk, cluster
from quarterjack.queries.bulk import MOST, Chosen
from tests.admin.conftest import Admin

FILL = """
INSERT INTO oban_jobs (worker, queue, state, attempt, max_attempts, attempted_by)
SELECT 'count', queue, state, 1, 1, '{node,producer,nonce}'
FROM unnest(enum_range(NULL::oban_job_state)) AS state, unnest('{sums,mail}'::text[]) AS queue, generate_series(1, 3)
"""
STATES = "SELECT state::text, queue FROM oban_jobs"
READ = """
SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)
FROM pg_stat_xact_user_tables
WHERE relid = 'oban_jobs'::regclass
"""


async def _states(admin: Admin, queue: str) -> Counter[str]:
    rows = await admin.database.pool.fetch(STATES)
    return Counter(row["state"] for row in rows if row["queue"] == queue)


@pytest.mark.parametrize(
    ("verb", "counted", "after"),
    [
        ("cancel", 15, {"cancelled": 15, "executing": 3, "completed": 3, "discarded": 3}),
        ("retry", 12, {"available": 15, "executing": 3, "scheduled": 3, "suspended": 3}),
        ("delete", 21, {"executing": 3}),
    ],
)
async def test_what_was_counted_is_done_and_audited(
    admin: Admin, verb: str, counted: int, after: dict[str, int]
) -> None:
    await admin.database.pool.execute(FILL)
    before = await _states(admin, "mail")
    ana = await admin.signed_in()

    asked = await ana.get(f"/jobs/all/{verb}?queue=sums")
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, queue, state) VALUES ('late', 'sums', 'retryable')"
    )
    done = await ana.post(f"/jobs/all/{verb}", asked.fields() | {"reason": "wrong data"})

    assert f"{verb.capitalize()} {counted} jobs?" in asked.text
    assert f": {counted} jobs." in done.text
    assert await _states(admin, "sums") == Counter(after) + Counter(retryable=1)
    assert await _states(admin, "mail") == before
    row = await admin.database.row("SELECT * FROM qj_audit WHERE action = $1", f"{verb} jobs")
    assert (row["reason"], row["after"]["jobs"], row["target"]) == (
        "wrong data",
        counted,
        "/jobs?queue=sums",
    )


async def test_what_was_done_is_told_to_who_did_it_alone(admin: Admin) -> None:
    await admin.database.pool.execute(FILL)
    ana, ben = await admin.signed_in("ana"), await admin.signed_in("ben")
    asked = await ana.get("/jobs/all/delete?queue=sums")
    done = await ana.post("/jobs/all/delete", asked.fields() | {"reason": "wrong data"})
    seal = done.path.rpartition(" ")[2]

    told = [
        "Deleted:" in (await visitor.get(path)).text
        for visitor, path in [
            (ana, done.path),
            (ana, done.path.replace("delete 21", "delete 22")),
            (ana, "/jobs?done=delete+21"),
            (ben, done.path),
            (ben, f"/jobs?done=delete+21+{seal}"),
        ]
    ]

    assert told == [True, False, False, False, False]


async def test_it_is_bounded(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST", 4)
    await admin.database.pool.execute(FILL)
    chosen = bulk.Chosen(states=["completed"], worker=None, queue=None, above=0, upto=10**6)

    assert await bulk.count(admin.database.pool, chosen) == 5
    ids = await bulk.pick(admin.database.pool, chosen)
    assert await bulk.delete(admin.database.pool, ids) == 4


async def test_a_job_that_was_tried_as_often_as_can_be_counted_is_retried_with_others(
    admin: Admin,
) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, queue, state, attempt, max_attempts)
        SELECT 'count', 'sums', 'discarded', tried, tried FROM unnest('{3,2147483647}'::int[]) AS tried
        """
    )
    ids = [row["id"] for row in await admin.database.pool.fetch("SELECT id FROM oban_jobs")]

    assert await bulk.retry(admin.database.pool, ids) == 2

    rows = await admin.database.pool.fetch("SELECT attempt, max_attempts FROM oban_jobs ORDER BY 1")
    assert [tuple(row) for row in rows] == [(3, 4), (32766, 2147483647)]


async def test_meta_that_is_no_object_keeps_no_job_from_being_cancelled(admin: Admin) -> None:
    ids = [
        row["id"]
        for row in await admin.database.pool.fetch(
            """
            INSERT INTO oban_jobs (worker, state, meta)
            SELECT 'count', 'available', meta::jsonb
            FROM unnest('{[1],7,"null","\\"text\\"",NULL}'::text[]) AS meta
            RETURNING id
            """
        )
    ]

    assert await bulk.cancel(admin.database.pool, ids) == 5


async def test_without_a_reason_nothing_is_done(admin: Admin) -> None:
    await admin.database.pool.execute(FILL)
    ana = await admin.signed_in()
    asked = await ana.get("/jobs/all/delete?state=completed")

    page = await ana.post("/jobs/all/delete", asked.fields() | {"reason": " "})

    assert (page.status, "Say why" in page.text) == (422, True)
    assert page.field("upto") == asked.field("upto")
    assert (await _states(admin, "sums"))["completed"] == 3


async def test_a_job_that_another_holds_is_left(admin: Admin) -> None:
    await admin.database.pool.execute(FILL)
    chosen = bulk.Chosen(states=["completed"], worker=None, queue="sums", above=0, upto=10**6)
    holder = await asyncpg.connect(admin.database.url)
    async with holder.transaction():
        await holder.execute(
            "SELECT FROM oban_jobs WHERE state = 'completed' AND queue = 'sums' LIMIT 1 FOR UPDATE"
        )
        assert len(await bulk.pick(admin.database.pool, chosen)) == 2
    await holder.close()


async def test_each_role_acts_as_it_may(admin: Admin) -> None:
    await admin.database.pool.execute(FILL)
    verbs = ("cancel", "retry", "delete")
    for role, found in (("viewer", [403, 403, 403]), ("operator", [200, 200, 403])):
        visitor = await admin.signed_in(role, role)
        assert [(await visitor.get(f"/jobs/all/{verb}")).status for verb in verbs] == found
        page = await visitor.get("/jobs")
        shown = [200 if f"/jobs/all/{verb}" in page.html else 403 for verb in verbs]
        assert shown == found


async def test_what_a_queue_holds_is_found_without_reading_history(admin: Admin) -> None:
    pool = admin.database.pool
    await pool.execute(
        """
        INSERT INTO oban_jobs (worker, queue, state)
        SELECT 'count', CASE WHEN n > 150000 THEN 'big' ELSE 'old' END,
          (CASE WHEN n > 150000 THEN 'available' ELSE 'completed' END)::oban_job_state
        FROM generate_series(1, 162000) AS n
        """
    )
    await pool.execute("ANALYZE oban_jobs")
    chosen = Chosen(states=["available"], worker=None, queue="big", above=0, upto=1_000_000)
    async with pool.acquire() as connection, connection.transaction():
        await cluster.limit_reads(connection, milliseconds=60_000)
        before = await connection.fetchval(READ)

        done = await bulk.pick(connection, chosen)
        rows = await connection.fetchval(READ) - before

    assert len(done) == MOST
    assert rows < 50_000
