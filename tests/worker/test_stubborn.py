"""Handlers that do what none should: each has a clear end, and nothing else suffers."""

import asyncio
import itertools
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

import quarterjack
from quarterjack.database import Pool
from quarterjack.errors import JobInvalid
from quarterjack.testing import enqueued
from quarterjack_worker import Cancel, Context, Snooze, job
from quarterjack_worker.testing import drain, perform
from tests.conftest import TestDatabase
from tests.waiting import until
from tests.worker.holding import has
from tests.worker.working import said, working

log = logging.getLogger(__name__)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise SystemExit("not a word")


@dataclass(frozen=True)
class Chosen:
    n: int = 0


@job("return_class")
async def return_class() -> object:
    """Forget to say why."""
    return Cancel


@job("cancel_itself_too_late")
async def cancel_itself_too_late() -> None:
    """Cancel the task after its last await."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@job("catch_timeout", max_attempts=1, timeout=timedelta(seconds=0.1))
async def catch_timeout(args: Chosen) -> object:
    """Catch the cancellation at the timeout, and return."""
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return Snooze(timedelta(hours=1)) if args.n else "done"


@job("nest", max_attempts=1)
async def nest(args: Chosen, context: Context) -> None:
    """Complete within the completion."""
    async with context.transaction() as outer:
        await outer.execute("INSERT INTO effects VALUES (1)")
        async with context.transaction() as inner:
            await inner.execute("INSERT INTO effects VALUES (2)")


@job("try_again")
async def try_again(args: Chosen, context: Context) -> None:
    """Complete after a first try that failed."""
    for n in range(2):
        with suppress(ZeroDivisionError):
            async with context.transaction() as connection:
                await connection.execute("INSERT INTO effects VALUES ($1)", n)
                assert 1 // n


@job("leave_in_backoff", backoff=lambda attempt: sys.exit(attempt))
async def leave_in_backoff() -> None:
    """Fail, and try to end the process where it says for how long to wait."""
    raise Unreadable


@job("return_without_end", recorded=True)
async def return_without_end() -> object:
    """Return what has no end."""
    return itertools.count()


@job("return_too_much", recorded=True)
async def return_too_much() -> object:
    """Return what takes long to look through."""
    return "\\" * 1_000_000


@job("hide_a_generator", max_attempts=1)
def hide_a_generator() -> object:
    """Return a generator, as a decorator may."""
    return (n for n in range(3))


@job("hide_a_manager", max_attempts=1)
def hide_a_manager() -> object:
    """Return a context manager, as a decorator of another may."""

    @contextmanager
    def manager() -> Iterator[None]:
        yield

    return manager()


@job("note_junk", max_attempts=1)
async def note_junk(args: Chosen, context: Context) -> None:
    """Leave what cannot be stored where a handler has no business."""
    context.notes["junk"] = object()


@job("adopt", max_attempts=1)
async def adopt(args: Chosen, context: Context) -> None:
    """Take what is no job for a child."""
    context.children.append("noted")  # type: ignore[arg-type] # what a program may do


@job("reuse", max_attempts=1)
async def reuse(args: Chosen, context: Context) -> None:
    """Enqueue the same object three times, and spoil it."""
    number: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    for n in range(3):
        number["n"] = meta["n"] = n
        context.enqueue("noted", number, meta=meta)
    number["n"] = meta["n"] = object()


told: list[str] = []


@job("enqueue_late")
async def enqueue_late(args: Chosen, context: Context) -> None:
    """Enqueue when the job has ended."""

    def late() -> None:
        try:
            context.enqueue("noted", {"n": args.n})
        except JobInvalid as error:
            told.append(str(error))

    asyncio.get_running_loop().call_later(0.01, late)


@job("spoil")
async def spoil(args: Chosen, context: Context) -> None:
    """Fail, and leave no sense in the job."""
    context.job.max_attempts = "many"  # type: ignore[assignment] # what a program may do
    raise ValueError("spoilt")


@job("shout")
async def shout(args: Chosen, context: Context) -> None:
    """Tell what no page can show."""
    logging.addLevelName(35, "LOUD\x00")
    context.progress(Fraction(1, 3))  # type: ignore[arg-type] # a number, as those of numpy
    context.progress(10**400)
    log.log(35, "shouted", exc_info=Unreadable())


async def test_a_timeout_that_is_caught_has_ended_the_attempt(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, catch_timeout)

    assert (done.state, done.attempt) == ("discarded", 1)
    assert "it ran longer than 0:00:00.100000, and returned" in done.errors[0]["error"]


async def test_a_timeout_that_is_caught_may_end_in_an_outcome(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, catch_timeout, Chosen(1))

    assert (done.state, done.attempt) == ("scheduled", 0)


async def test_an_outcome_that_was_not_made_fails_the_attempt(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, return_class)

    assert done.state == "retryable"
    assert done.errors[0]["error"] == "TypeError: it returned the class Cancel: return Cancel(…)"


async def test_a_cancellation_that_comes_after_all_is_the_handlers_alone(
    quarterjack_pool: Pool,
) -> None:
    done = await perform(quarterjack_pool, cancel_itself_too_late)

    assert done.state == "completed"


async def test_a_job_completes_in_one_transaction(quarterjack_pool: Pool) -> None:
    await quarterjack_pool.execute("CREATE TABLE effects (n integer)")

    nested = await perform(quarterjack_pool, nest)
    tried = await perform(quarterjack_pool, try_again)

    written = await quarterjack_pool.fetch("SELECT n FROM effects")
    assert (nested.state, tried.state) == ("discarded", "completed")
    assert "has a transaction() already" in nested.errors[0]["error"]
    assert [n for (n,) in written] == [1]


async def test_a_backoff_that_tries_to_end_the_process_does_not(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, leave_in_backoff)

    assert done.state == "retryable"
    assert done.errors[0]["error"].startswith(
        "Unreadable: (its message could not be read)\n\nTrace"
    )


@pytest.mark.parametrize(
    ("handler", "why"),
    [(return_without_end, "may have no end"), (return_too_much, "it has 2000002 bytes")],
)
async def test_what_cannot_be_recorded_is_a_warning(
    quarterjack_pool: Pool, handler: Callable[[], object], why: str
) -> None:
    done = await perform(quarterjack_pool, handler)

    assert done.state == "completed"
    assert why in done.meta["warning"]


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (hide_a_generator, "a generator, of which nothing has run"),
        (hide_a_manager, "a context manager that nobody entered"),
    ],
)
async def test_what_a_decorator_hides_and_nobody_runs_fails_the_attempt(
    quarterjack_pool: Pool, handler: Callable[[], object], what: str
) -> None:
    done = await perform(quarterjack_pool, handler)

    assert f"returned {what}" in done.errors[0]["error"]


@pytest.mark.parametrize("handler", [note_junk, adopt])
async def test_what_cannot_be_stored_discards_its_job(
    quarterjack_pool: Pool, handler: Callable[..., object]
) -> None:
    done = await perform(quarterjack_pool, handler)

    assert done.state == "discarded"
    assert "Unstorable" in done.errors[0]["error"]


async def test_a_job_that_its_handler_spoils_has_an_outcome(quarterjack_pool: Pool) -> None:
    done = await perform(quarterjack_pool, spoil)

    assert done.state == "discarded"
    assert "ValueError: spoilt" in done.errors[0]["error"]


async def test_a_child_is_what_it_was_when_it_was_enqueued(quarterjack_pool: Pool) -> None:
    await perform(quarterjack_pool, reuse)

    children = await enqueued(quarterjack_pool, "noted")
    assert sorted((each.args["n"], each.meta["n"]) for each in children) == [
        (n, n) for n in range(3)
    ]


async def test_a_child_that_comes_too_late_is_refused(quarterjack_pool: Pool) -> None:
    told.clear()

    done = await perform(quarterjack_pool, enqueue_late)
    await until(lambda: has(told, 1))

    assert done.state == "completed"
    assert "has ended already" in told[0]


async def test_odd_progress_and_levels_are_shown(quarterjack_pool: Pool) -> None:
    await quarterjack.enqueue(quarterjack_pool, "shout")
    [done] = await drain(quarterjack_pool)

    [told] = await quarterjack_pool.fetch("SELECT percent, lines FROM qj_journals")
    [line] = told["lines"]
    assert done.state == "completed"
    assert told["percent"] == 100
    assert line["level"] == "loud\N{REPLACEMENT CHARACTER}"
    assert line["text"] == "shouted: Unreadable: (its message could not be read)"


@pytest.mark.newest_postgres
async def test_a_deploy_ends_a_worker_whose_handlers_do_not_heed_it(database: TestDatabase) -> None:
    async with working(database) as (running, worker):
        await quarterjack.enqueue(database.pool, "give_up_quietly")
        await quarterjack.enqueue(database.pool, "never_give_up")
        await until(lambda: said(worker, "working quietly"), within=30)
        await until(lambda: said(worker, "never giving up"))
        await until(lambda: said(worker, "goes on 5 s after its timeout"))

        await running.signal_session(worker, signal.SIGTERM)
        async with asyncio.timeout(20):
            code = await worker.process.wait()

    quiet = await database.row("SELECT state::text, attempt, errors FROM oban_jobs ORDER BY id")
    assert code == 0
    assert tuple(quiet) == ("available", 0, [])
