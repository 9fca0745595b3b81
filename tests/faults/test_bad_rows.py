"""Rows that another program wrote as no client of ours would, and args that are large or strange (F31, F32)."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import quarterjack
from quarterjack.errors import JobInvalid
from tests.conftest import TestDatabase
from tests.faults.crew import Crew, child_of, crew
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.timeout(240)]
BAD = {
    "unknown worker": "worker => 'of_another', max_attempts => 1",
    "unknown worker, last of many attempts": (
        "worker => 'of_another', attempt => 2147483646, max_attempts => 2147483647"
    ),
    "args are a list": "args => '[1]', max_attempts => 1",
    "args are null": "args => 'null', max_attempts => 1",
    "args are a text": """args => '"x"', max_attempts => 1""",
    "args do not fit": """args => '{"seconds": "soon"}', max_attempts => 1""",
    "digits too many for Python": """args => ('{"n": ' || repeat('9', 5000) || '}')::jsonb, max_attempts => 1""",
    "too deep for Python": """args => (repeat('[', 5000) || repeat(']', 5000))::jsonb, max_attempts => 1""",
    "no attempt left": "attempt => 3, max_attempts => 3",
    "meta is null": "meta => NULL",
    "meta is a list": "meta => '[1, 2]'",
    "meta is a number": "meta => '7'",
    "meta that we would count in": """meta => '{"rescued": "x", "snoozed": {}, "timeout": "long", "traceparent": 7}'""",
    "tags are missing": "tags => NULL",
    "tags in two dimensions": "tags => '{{a,b},{c,d}}'",
    "errors in two dimensions, done": "errors => ARRAY[ARRAY['{}'::jsonb, '1'], ARRAY['[]'::jsonb, 'null']]",
    "errors in two dimensions, failing": (
        "worker => 'of_another', max_attempts => 1, errors => ARRAY[ARRAY['{}'::jsonb]]"
    ),
    "errors from nowhere": "errors => '[-7:-6]={null,1}'::jsonb[]",
    "priority": "priority => 2147483647",
    "due for ever": "scheduled_at => '-infinity', inserted_at => 'infinity'",
}
MAKE = """
CREATE FUNCTION fault_bad(
  worker text DEFAULT 'wait', args jsonb DEFAULT '{}', meta jsonb DEFAULT '{}', errors jsonb[] DEFAULT '{}',
  tags text[] DEFAULT '{}', attempt integer DEFAULT 0, max_attempts integer DEFAULT 20, priority integer DEFAULT 0,
  scheduled_at timestamp DEFAULT timezone('UTC', now()), inserted_at timestamp DEFAULT timezone('UTC', now())
) RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO oban_jobs
    (worker, args, meta, errors, tags, attempt, max_attempts, priority, scheduled_at, inserted_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
  RETURNING id
$$
"""
ENDED = """
SELECT bool_and(state IN ('completed', 'discarded')), array_agg(DISTINCT state::text),
  bool_and(state = 'completed' OR cardinality(errors) > 0)
FROM oban_jobs WHERE id = ANY ($1)
"""
COMPLETED = "SELECT bool_and(state = 'completed') FROM oban_jobs WHERE id = ANY ($1)"
AGAIN = (
    "SELECT count(*) FROM oban_jobs WHERE id = ANY ($1) AND (state = 'available' OR attempt > 1)"
)
RESULT = "SELECT state::text, meta -> 'result' FROM oban_jobs WHERE id = $1"
STARTED = """
SELECT extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (ORDER BY attempted_at - inserted_at))::float
FROM oban_jobs WHERE attempt = 1 AND id <> ALL ($1) AND worker IN ('wait', 'wait_in_thread', 'write')
"""
RAISE = "UPDATE oban_jobs SET max_attempts = 4 WHERE state = 'available' AND attempt = max_attempts"
COPIES = 10
NUMBER = 10**999 + 7


async def test_f31_bad_rows_hold_up_no_other(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Two hundred at once: each ends, and says why if it is discarded."""
    await database.pool.execute(MAKE)
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1", limit=100)
        async with all.load():
            made = {
                name: [
                    await database.pool.fetchval(f"SELECT fault_bad({row})") for _ in range(COPIES)
                ]
                for name, row in BAD.items()
            }
            await all.field.pass_time(3.0)
        await database.pool.execute(RAISE)
        await all.finished()
        ids = [id for each in made.values() for id in each]
        for name, each in made.items():
            ended, states, said_why = await database.row(ENDED, each)
            assert ended, f"{name}: {states}"
            assert said_why, f"{name}: discarded without a word"
        assert await all.field.ask(STARTED, ids) < 1.2
        await _verify(all, ids)


async def test_f31_a_bad_row_holds_up_no_rescue(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """Its worker's process dies, and then a whole machine."""
    async with crew(database, tmp_path, seed=seed) as all:
        victim = await all.hire("victim", limit=40)
        held = await all.held(20)
        await database.pool.execute(
            "UPDATE oban_jobs SET errors = ARRAY[ARRAY['{}'::jsonb]], meta = '7' WHERE id = ANY ($1)",
            held[7:9],
        )
        async with all.load():
            os.kill(child_of(victim), signal.SIGKILL)
            await until(partial(_again, all, held), within=3.0)
            all.open()
            await until(partial(all.field.ask, COMPLETED, held))
        await _verify(all, held)


async def test_f32_args_are_intact_or_refused(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    async with crew(database, tmp_path, seed=seed) as all:
        await all.hire("worker-1")
        large = 'é\\"\u2028' * 1_500_000
        async with all.field.trouble("large args"), all.load():
            whole: list[tuple[dict[str, Any], dict[str, Any]]] = [
                ({"text": large}, {"length": len(large), "text": None, "number": "None"}),
                ({"text": "\\u0000 😀"}, {"length": 8, "text": "\\u0000 😀", "number": "None"}),
                ({"number": -NUMBER}, {"length": None, "text": None, "number": str(-NUMBER)}),
                ({"number": 0.1}, {"length": None, "text": None, "number": "0.1"}),
            ]
            for args, result in whole:
                made = await quarterjack.enqueue(database.pool, "measure", args)
                await until(partial(all.field.ask, COMPLETED, [made.id]))
                assert tuple(await database.row(RESULT, made.id)) == ("completed", result)
            refused: dict[str, dict[str, Any]] = {
                "NUL": {"text": "a\x00b"},
                "surrogate": {"text": "\ud800"},
                "digits": {"number": 10**1_000},
                "JSON": {"number": float("nan")},
            }
            for word, args in refused.items():
                with pytest.raises(JobInvalid, match=word):
                    await quarterjack.enqueue(database.pool, "measure", args)
        await all.verify()


async def _again(all: Crew, ids: list[int]) -> bool:
    return bool(await all.field.ask(AGAIN, ids) == len(ids))


async def _verify(all: Crew, bad: list[int]) -> None:
    """What came with the bad rows is not what the checks look for."""
    await all.finished()
    await all.field.ask("DELETE FROM fault_steps WHERE before IS NULL AND attempts_after > 0")
    await all.field.ask("UPDATE oban_jobs SET errors = '{}' WHERE id = ANY ($1)", bad)
    await all.verify()
