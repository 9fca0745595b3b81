"""What attempts tell while they run."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

import quarterjack
from quarterjack import NewJob
from quarterjack.queries import journals
from quarterjack.queries.claims import Claim
from quarterjack.queries.journals import Journal
from quarterjack_worker.journals import Journals
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.working import ended, said, working

pytestmark = pytest.mark.newest_postgres
LAST = "SELECT lines -> -1 ->> 'text' FROM qj_journals WHERE job_id = $1"
RUNNING = "SELECT count(*) = $1 FROM oban_jobs WHERE state = 'executing'"


def journal(id: int, **change: Any) -> Journal:
    return Journal(
        job_id=id,
        **{
            "attempted_at": datetime.now(UTC),
            "attempt": 1,
            "percent": None,
            "message": None,
            "lines": [],
            "left_out": 0,
            **change,
        },
    )


@pytest.mark.parametrize("worker", ["tell", "tell_in_thread", "tell_in_process"])
async def test_an_attempt_tells_its_progress_and_its_last_lines(
    database: TestDatabase, worker: str
) -> None:
    async with working(database):
        silent = await quarterjack.enqueue(database.pool, "layered")
        telling = await quarterjack.enqueue(database.pool, worker)
        await until(
            lambda: database.pool.fetchval(f"SELECT ({LAST}) LIKE 'the last line%'", telling.id),
            within=20,
        )
        await until(lambda: database.pool.fetchval(RUNNING, 1 if worker == "tell" else 0))
        await database.pool.execute("CREATE TABLE released ()")
        await ended(database)
        written = await database.pool.fetch("SELECT * FROM qj_journals")

    [journal] = written
    assert journal["job_id"] != silent.id
    assert (journal["percent"], journal["message"]) == (100, None)
    assert (len(journal["lines"]), journal["left_out"]) == (100, 901)
    assert journal["lines"][0]["text"] == "line 901"
    assert journal["lines"][0]["level"] == "warning"
    assert journal["lines"][-1]["text"] == "the last line, \N{REPLACEMENT CHARACTER}"


async def test_telling_costs_a_statement_a_second_not_one_for_each_call(
    database: TestDatabase,
) -> None:
    async with working(database):
        await quarterjack.enqueue_many(database.pool, [NewJob(worker="tell")] * 10)
        await until(
            lambda: database.pool.fetchval(
                "SELECT count(*) FILTER (WHERE percent = 100) = 10 FROM qj_journals"
            ),
            within=20,
        )
        await database.pool.execute("SELECT pg_stat_force_next_flush()")

        async def writes() -> int:
            return int(
                await database.pool.fetchval(
                    "SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'qj_journals'"
                )
            )

        told = await until(writes)

    assert told < 100


async def test_what_is_no_percentage_fails_the_attempt(database: TestDatabase) -> None:
    async with working(database):
        await quarterjack.enqueue(database.pool, "tell_nonsense")

        [job] = await ended(database)

    assert "ValueError: progress is nan" in job["error"]


async def test_the_last_words_of_a_deploy_are_kept(database: TestDatabase) -> None:
    async with working(database) as (_, worker):
        telling = await quarterjack.enqueue(database.pool, "last_words")
        await until(lambda: database.pool.fetchval(LAST, telling.id))

        await worker.stop()

    assert await database.pool.fetchval(LAST, telling.id) == "the last words"


async def test_a_journal_of_a_job_that_its_handler_has_spoilt_is_dropped(
    database: TestDatabase,
) -> None:
    async with working(database) as (_, worker):
        await quarterjack.enqueue(database.pool, "forget_itself")
        await until(lambda: said(worker, "dropped the journal of job"))
        await quarterjack.enqueue(database.pool, "tell_in_thread")
        jobs = await ended(database)

        assert not await said(worker, "starting again")
    assert [job["state"] for job in jobs] == ["completed"] * 2


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda: object().gone,  # type: ignore[attr-defined] # as of a job that is none any more
        lambda: journal(3, attempted_at=None),
        lambda: journal(3, attempt="first"),
        lambda: journal(3, attempt=10**20),
        lambda: journal(3, message="a NUL, \0"),
    ],
)
async def test_a_spoilt_journal_takes_no_other_along(
    database: TestDatabase, spoilt: Callable[[], Journal]
) -> None:
    kept = Journals()
    for id in range(1, 6):
        kept.changed(Claim(id, "n"), spoilt if id == 3 else partial(journal, id))

    await kept.flush(database.pool)

    written = await database.pool.fetch("SELECT job_id FROM qj_journals ORDER BY job_id")
    assert [row["job_id"] for row in written] == [1, 2, 4, 5]


async def test_what_could_not_be_written_is_written_later(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing changes any more; it comes from a thread."""
    monkeypatch.setattr("quarterjack_worker.journals.EVERY", 0.01)
    tried: list[Journal] = []

    async def write(*_: Any, journals: list[Journal]) -> None:
        tried.extend(journals)
        if len(tried) < 3:
            raise ConnectionResetError

    monkeypatch.setattr(journals, "write", write)
    kept = Journals()
    writing = asyncio.create_task(kept.run(database.pool))
    await asyncio.sleep(0)

    await asyncio.to_thread(kept.changed, Claim(1, "n"), lambda: journal(1))

    await until(lambda: _tried(tried, 3))
    writing.cancel()


async def _tried(tried: list[Journal], times: int) -> bool:
    return len(tried) == times
