"""Every example of docs/contract.md, run as another program would: a client and a worker that have only SQL."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from quarterjack import JobState
from quarterjack.model import Job
from quarterjack.queries import jobs, upkeep
from tests.conftest import TestDatabase
from tests.documents import blocks
from tests.flows import end, settle, states
from tests.processes import cluster
from tests.waiting import until

EXAMPLES = {
    block.partition("\n")[0].removeprefix("-- "): block for block in blocks("contract.md", "sql")
}

OUTCOMES = ["complete", "fail", "snooze", "cancelled", "release"]


class Sql:
    """A program that knows no more than the page."""

    def __init__(self, database: TestDatabase) -> None:
        self.pool = database.pool
        self.uuid = uuid4()

    async def run(self, example: str, *arguments: object) -> list[Mapping[str, Any]]:
        return [dict(row) for row in await self.pool.fetch(EXAMPLES[example], *arguments)]

    async def id(self, example: str) -> int:
        [row] = await self.run(example)
        return int(row["id"])

    async def register(self) -> None:
        await self.run("register", self.uuid, "ruby-1", 7, "1.0", "mail", 5)

    async def claim(self) -> list[Mapping[str, Any]]:
        return await self.run("claim", self.uuid, "mail", 6, "ruby-1", "a claim")

    def fence(self, job: Mapping[str, Any], by: UUID | None = None) -> tuple[object, ...]:
        return job["id"], job["attempt"], job["attempted_at"], str(by or self.uuid)

    async def job(self, id: int) -> Job:
        job = await jobs.find(self.pool, id)
        assert job is not None
        return job


@pytest.fixture
async def sql(database: TestDatabase) -> Sql:
    return Sql(database)


async def test_a_job_is_enqueued_now_later_and_once(sql: Sql) -> None:
    now, later = await sql.id("now"), await sql.id("later")
    first, second = await sql.run("once"), await sql.run("once")

    assert (await sql.job(now)).args == {"month": "2026-11"}
    due = await sql.job(later)
    assert due.state == JobState.SCHEDULED
    assert timedelta(minutes=59) < due.scheduled_at - due.inserted_at <= timedelta(hours=1)
    assert (len(first), second) == (1, [])


async def test_an_insert_rings_and_so_does_ring(sql: Sql, database: TestDatabase) -> None:
    heard: list[str] = []
    connection = await asyncpg.connect(database.url)
    try:
        await connection.add_listener("public.oban_insert", lambda *each: heard.append(each[3]))
        await connection.execute(EXAMPLES["listen"])
        for example in ("now", "ring"):
            await sql.run(example)

        async def rang() -> bool:
            return len(heard) == 2

        await until(rang)
    finally:
        await connection.close()

    assert {each.replace(" ", "") for each in heard} == {'{"queue":"mail"}'}


async def test_a_worker_lives_by_these_statements(sql: Sql) -> None:
    await sql.register()
    ids = [await sql.id("now") for _ in range(6)]
    claimed = await sql.claim()
    assert [job["id"] for job in claimed] == ids
    assert await sql.claim() == []
    assert await sql.run("beat", sql.uuid, 5, 7) == [
        {"paused": False, "local_limit": 7, "limited": False}
    ]
    assert [job["id"] for job in await sql.run("held", str(sql.uuid))] == ids

    done, failed, snoozed, cancelled, released, dead = claimed
    assert len(await sql.run("complete", *sql.fence(done))) == 1
    assert len(await sql.run("fail", *sql.fence(failed), "Timeout: too slow", 60.0)) == 1
    assert len(await sql.run("snooze", *sql.fence(snoozed), 3600.0)) == 1
    assert len(await sql.run("cancelled", *sql.fence(cancelled))) == 1
    assert await sql.run("release", *sql.fence(released)) == [{"queue": "mail"}]

    states = [(job.state, job.attempt) for job in [await sql.job(id) for id in ids]]
    assert states == [
        ("completed", 1), ("retryable", 1), ("scheduled", 0), ("cancelled", 1), ("available", 0),
        ("executing", 1),
    ]  # fmt: skip
    [error] = (await sql.job(failed["id"])).errors
    assert (error["attempt"], error["error"]) == (1, "Timeout: too slow")
    assert (await sql.job(snoozed["id"])).meta == {"snoozed": 1}
    assert (await sql.job(dead["id"])).attempted_by == ["ruby-1", str(sql.uuid), "a claim"]


@pytest.mark.parametrize("example", OUTCOMES)
async def test_an_outcome_of_a_row_that_another_program_wrote(sql: Sql, example: str) -> None:
    await sql.register()
    await sql.pool.execute(
        """
        INSERT INTO oban_jobs (worker, queue, meta, tags, errors) VALUES
          ('w', 'mail', NULL, NULL, '{}'),
          ('w', 'mail', '{"snoozed": "often"}', '{}', ARRAY[ARRAY['{}'::jsonb]]),
          ('w', 'mail', '[7]', '{}', ARRAY['7'::jsonb])
        """
    )
    claimed = await sql.claim()

    more: tuple[object, ...] = {"fail": ("late", 1.0), "snooze": (1.0,)}.get(example, ())
    done = [await sql.run(example, *sql.fence(job), *more) for job in claimed]

    assert [len(rows) for rows in done] == [1, 1, 1]


@pytest.mark.parametrize("example", OUTCOMES)
async def test_an_outcome_of_a_lost_claim_changes_nothing(sql: Sql, example: str) -> None:
    await sql.register()
    id = await sql.id("now")
    [held] = await sql.claim()
    more: tuple[object, ...] = {"fail": ("late", 1.0), "snooze": (1.0,)}.get(example, ())

    for fence in (
        sql.fence(held, by=uuid4()),
        sql.fence({**held, "attempt": 2}),
        sql.fence({**held, "attempted_at": held["attempted_at"] - timedelta(microseconds=1)}),
    ):
        assert await sql.run(example, *fence, *more) == []

    assert (await sql.job(id)).state == JobState.EXECUTING


async def test_the_last_failure_discards(sql: Sql) -> None:
    await sql.register()
    id = await sql.id("now")
    await sql.pool.execute("UPDATE oban_jobs SET max_attempts = 1")
    [held] = await sql.claim()

    await sql.run("fail", *sql.fence(held), "hopeless", 1.0)

    assert (await sql.job(id)).discarded_at is not None
    assert await sql.run("retry", id) == [{"queue": "mail"}]
    [again] = await sql.claim()
    assert (again["id"], again["attempt"], again["max_attempts"]) == (id, 2, 2)


async def test_a_silent_worker_is_declared_dead_and_its_job_runs_elsewhere(sql: Sql) -> None:
    await sql.register()
    id = await sql.id("now")
    [held] = await sql.claim()
    await sql.pool.execute("UPDATE qj_producers SET heartbeat_at = now() - interval '9 s'")

    patience = timedelta(seconds=5)
    silent = await upkeep.silent_producers(sql.pool, patience=patience)
    await upkeep.condemn(sql.pool, uuids=[each.uuid for each in silent], patience=patience)
    assert [job.id for job in await upkeep.rescue(sql.pool, limit=5)] == [id]

    assert await sql.run("beat", sql.uuid, 1, 5) == []
    assert await sql.claim() == []
    assert await sql.run("complete", *sql.fence(held)) == []
    sql.uuid = uuid4()
    await sql.register()
    [again] = await sql.claim()
    assert (again["id"], again["attempt"]) == (id, 2)
    await sql.run("complete", *sql.fence(again))
    await sql.run("leave", sql.uuid)
    assert await sql.pool.fetchval("SELECT count(*) FROM qj_producers WHERE state <> 'dead'") == 0


async def test_our_workers_obey(sql: Sql, database: TestDatabase) -> None:
    async with cluster(database) as running:
        await running.worker("worker-1", import_="tests.jobs", queues="mail=5,default=1")
        await until(lambda: sql.pool.fetchval("SELECT count(*) = 2 FROM oban_producers"))
        await sql.run("pause")
        await sql.run("scale")
        await until(
            lambda: sql.pool.fetchval(
                "SELECT paused AND local_limit = 3 FROM qj_producers WHERE queue = 'mail'"
            )
        )
        waiting = await sql.id("now")
        assert await sql.run("cancel", waiting) == []
        assert (await sql.job(waiting)).state == JobState.CANCELLED

        running_id = await sql.pool.fetchval(
            "INSERT INTO oban_jobs (worker) VALUES ('wait_for_release') RETURNING id"
        )

        async def state() -> JobState:
            return (await sql.job(running_id)).state

        await until(lambda: _is(state, JobState.EXECUTING))
        assert len(await sql.run("cancel", running_id)) == 1
        await until(lambda: _is(state, JobState.CANCELLED))


async def _is(state: Any, wanted: JobState) -> bool:
    return bool(await state() == wanted)


async def test_what_is_kept_is_asked_of_every_worker(sql: Sql, database: TestDatabase) -> None:
    await sql.register()
    await sql.run("keep")
    async with cluster(database) as running:
        await running.worker("worker-1", import_="tests.jobs", queues="mail=5")
        await until(
            lambda: sql.pool.fetchval("SELECT paused FROM qj_producers WHERE node = 'worker-1'")
        )

        assert await sql.run("beat", sql.uuid, 0, 5) == [
            {"paused": True, "local_limit": 5, "limited": False}
        ]
        assert await sql.pool.fetchval("SELECT paused FROM qj_producers WHERE uuid = $1", sql.uuid)
        assert await sql.run("keep") == []


async def test_a_schedule_is_made_edited_and_asked_about(sql: Sql) -> None:
    await sql.run("schedule")
    await sql.run("edit")
    [why] = await sql.run("why did it not run?")

    assert why["outcome"] == "superseded"
    versions = await sql.pool.fetch(
        "SELECT reason, author FROM qj_schedule_versions ORDER BY version"
    )
    assert [row["reason"] for row in versions][-1] == "quieter mornings"
    assert versions[-1]["author"] == "ana"


async def test_a_job_waits_for_others(sql: Sql) -> None:
    [first], [second], [missing] = [await sql.run("now") for _ in range(3)]
    ids = [first["id"], second["id"]]
    await end(sql.pool, ids[0], state="discarded")
    await sql.pool.execute("DELETE FROM oban_jobs WHERE id = $1", missing["id"])

    [after] = await sql.run("after", ids)
    [vain] = await sql.run("after", [*ids, missing["id"]])
    await settle(sql.pool)
    before = await states(sql.pool, after["id"], vain["id"])
    await end(sql.pool, ids[1])
    await settle(sql.pool)

    assert before == ["suspended", "cancelled"]
    assert await states(sql.pool, after["id"]) == ["available"]
    assert [tuple(row.values()) for row in await sql.run("parents", after["id"])] == [
        (ids[0], None, "discarded", None),
        (ids[1], None, "completed", None),
    ]


def test_no_example_is_left_out() -> None:
    here = Path(__file__).read_text(encoding="utf-8")

    assert [name for name in EXAMPLES if f'"{name}"' not in here] == []
    assert len(EXAMPLES) == len(blocks("contract.md", "sql"))
