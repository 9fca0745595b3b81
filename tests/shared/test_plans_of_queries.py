"""What leader and workers ask every second must not read all that lies in the future."""

import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from quarterjack.queries import (
    alerts,
    bulk,
    flow_lists,
    job_lists,
    journals,
    oban_web,
    outlook,
    plans,
    producers,
    prune,
    runs,
    schedules,
    ticks,
    upkeep,
)
from tests.conftest import TestDatabase

FILL = """
INSERT INTO oban_jobs (worker, state, scheduled_at, completed_at)
SELECT 'w', state::oban_job_state, timezone('UTC', now()) + make_interval(hours => n), timezone('UTC', now())
FROM generate_series(1, 3000) AS n, (VALUES ('scheduled'), ('completed'), ('available')) AS s (state);
INSERT INTO qj_schedules (name, worker, cron, next_run_at, applied_version)
SELECT 's' || n, 'w', '0 0 * * *', now() + make_interval(hours => n), 1 FROM generate_series(1, 3000) AS n;
INSERT INTO qj_ticks (schedule_id, tick_at, outcome, version)
SELECT 1, now() + make_interval(hours => n), 'enqueued', 1 FROM generate_series(1, 3000) AS n;
INSERT INTO qj_journals (job_id, attempted_at, attempt)
SELECT n, now() + make_interval(hours => n), 1 FROM generate_series(1, 3000) AS n;
INSERT INTO qj_edges (parent, child) SELECT n, 3001 FROM generate_series(1, 3000) AS n;
INSERT INTO qj_ended (job_id, outcome) SELECT n, 'completed' FROM generate_series(1, 3000) AS n;
ANALYZE oban_jobs, qj_schedules, qj_ticks, qj_journals, qj_edges, qj_ended;
"""
UNKNOWN = FILL.partition("ANALYZE")[0]
"""As after a restore, or a pg_upgrade to less than 18."""
RUNS = """
INSERT INTO oban_jobs (worker, state, meta)
SELECT 'w', state::oban_job_state, jsonb_build_object('cron_name', 's' || n)
FROM generate_series(1, 1000) AS n, (VALUES ('completed'), ('cancelled'), ('discarded')) AS s (state);
INSERT INTO qj_schedules (name, worker, cron, max_failures)
SELECT 's' || n, 'w', '0 0 * * *', 3 FROM generate_series(1, 1000) AS n;
"""


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        (upkeep.stage, [5_000]),
        (upkeep.next_due_in, []),
        (ticks.due, [timedelta(seconds=2), timedelta(seconds=30), 2_000, 1_000]),
        (prune.completed, [timedelta(days=7), 5_000]),
        (prune.ledger, [timedelta(days=35), 50]),
        (journals.prune, [timedelta(days=7), 50]),
    ],
)
@pytest.mark.parametrize("fill", [FILL, UNKNOWN], ids=["known", "unknown"])
async def test_it_reads_only_what_is_due(
    database: TestDatabase, query: Callable[..., Any], arguments: list[Any], fill: str
) -> None:
    text = await explain(database, query, arguments, fill)

    assert re.search(
        r"Index Cond: .*(scheduled|completed|next_run|decided|attempted)_?a?t? ?<", text
    ), text


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        (outlook.look, [timedelta(seconds=5)]),
        (plans.unplanned, [1_000]),
        (plans.resume_due, []),
        (upkeep.rescue, [500]),
        (producers.beat, [[uuid4()], ["q"], [10], [0], [False], ["{}"], False, "Oban", "n"]),
        (flow_lists.members, ["0" * 32, -1, 0, 100]),
        (flow_lists.count_members, ["0" * 32, 100_000]),
        (flow_lists.parents, [7, 20]),
        (flow_lists.children, [7, 20]),
        (oban_web.count_jobs, [["available", "executing", "retryable", "discarded"]]),
    ],
)
async def test_it_reads_no_table_from_end_to_end(
    database: TestDatabase, query: Callable[..., Any], arguments: list[Any]
) -> None:
    text = await explain(database, query, arguments)

    assert not re.search(
        r"Seq Scan on (oban_jobs|qj_schedules|qj_ticks|qj_edges|qj_ended)", text
    ), text


@pytest.mark.parametrize("fill", [FILL, UNKNOWN], ids=["known", "unknown"])
@pytest.mark.parametrize("queue", [None, "default"])
async def test_jobs_are_counted_in_the_index_of_their_states(
    database: TestDatabase, queue: str | None, fill: str
) -> None:
    """It is read in its order, up to the cap; whatever has no order may read all others to find few."""
    text = await explain(database, runs.counts, [queue], fill)

    assert "Index Only Scan using oban_jobs_state_queue_priority" in text, text
    assert "Sort" not in text, text


async def test_the_schedules_of_a_worker_are_not_looked_for_among_all(
    database: TestDatabase,
) -> None:
    text = await explain(database, schedules.names_by_worker, [["w", "idle"]])

    assert "qj_schedules_name_key" not in text, text


async def test_a_look_reads_no_table_of_which_nothing_is_known(database: TestDatabase) -> None:
    text = await explain(database, outlook.look, [timedelta(seconds=5)], UNKNOWN)

    assert not re.search(r"Seq Scan on (oban_jobs|qj_schedules)", text), text


@pytest.mark.parametrize("fill", [RUNS, f"{RUNS}; ANALYZE"], ids=["unknown", "known"])
async def test_failures_are_looked_for_among_the_newest_runs_of_each_schedule(
    database: TestDatabase, fill: str
) -> None:
    text = await explain(database, alerts.pause_failing, [[]], fill)

    assert "Index Scan Backward using qj_jobs_schedule" in text, text


@pytest.mark.parametrize(
    ("query", "arguments", "given"),
    [(plans.plan, [uuid4(), 1, "n", "[]"], 1), (ticks.strike, [uuid4(), 1, "[]", "[]"], 2)],
)
async def test_what_it_is_given_is_read_once(
    database: TestDatabase, query: Callable[..., Any], arguments: list[Any], given: int
) -> None:
    """Read twice, each row of it would be compared with every other."""
    text = await explain(database, query, arguments)

    assert len(re.findall("Function Scan on jsonb_to_recordset", text)) == given, text


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        (job_lists.by_id, ["suspended", None, None, 500, None, 50]),
        (job_lists.by_id, ["discarded", None, None, 500, None, 50]),
        (job_lists.by_id_back, ["available", None, None, None, None, 50]),
        (job_lists.by_id_back, ["cancelled", None, None, 500, None, 50]),
        (bulk.pick, [["available"], None, None, 0, 10_000, 50]),
        (bulk.pick, [["discarded"], None, None, 0, 10_000, 50]),
    ],
)
async def test_jobs_of_a_state_are_not_looked_for_in_all_history(
    database: TestDatabase, query: Callable[..., Any], arguments: list[Any]
) -> None:
    text = await explain(database, query, arguments)

    assert not re.search("oban_jobs_pkey|Seq Scan", text), text


async def test_a_window_of_jobs_is_read_once_for_the_counts_of_all_states(
    database: TestDatabase,
) -> None:
    text = await explain(database, runs.counts_above, ["w", None, 100])

    assert len(re.findall(" on oban_jobs", text)) == 1, text


async def test_a_strike_compares_no_row_with_every_other(database: TestDatabase) -> None:
    text = await explain(database, ticks.strike, [uuid4(), 1, "[]", "[]"])

    assert len(re.findall("(?:Hash|Merge) Full Join", text)) == 2, text


async def test_a_strike_looks_at_no_run_where_all_may_overlap(database: TestDatabase) -> None:
    text = await explain(database, ticks.strike, [uuid4(), 1, "[]", "[]"])

    assert re.search(r"One-Time Filter: .*g\.overlap = ANY", text), text


async def explain(
    database: TestDatabase, query: Callable[..., Any], arguments: list[Any], fill: str = FILL
) -> str:
    await database.pool.execute(fill)
    found = re.search(
        r'"""\n(\s+(?:WITH|SELECT|DELETE|UPDATE).*?)"""', inspect.getsource(query), re.DOTALL
    )
    assert found is not None
    plan = await database.pool.fetch(f"EXPLAIN {found[1]}", *arguments)
    return "\n".join(row[0] for row in plan)
