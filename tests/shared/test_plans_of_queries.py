"""What the leader asks every second must not read all that lies in the future."""

import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from quarterjack.queries import prune, ticks, upkeep
from tests.conftest import TestDatabase

FILL = """
INSERT INTO oban_jobs (worker, state, scheduled_at, completed_at)
SELECT 'w', state::oban_job_state, timezone('UTC', now()) + make_interval(hours => n), timezone('UTC', now())
FROM generate_series(1, 3000) AS n, (VALUES ('scheduled'), ('completed')) AS s (state);
INSERT INTO qj_schedules (name, worker, cron, next_run_at)
SELECT 's' || n, 'w', '0 0 * * *', now() + make_interval(hours => n) FROM generate_series(1, 3000) AS n;
INSERT INTO qj_ticks (schedule_id, tick_at, outcome, version)
SELECT 1, now() + make_interval(hours => n), 'enqueued', 1 FROM generate_series(1, 3000) AS n;
ANALYZE oban_jobs, qj_schedules, qj_ticks;
"""


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        (upkeep.stage, [5_000]),
        (upkeep.next_due_in, []),
        (ticks.due, [timedelta(seconds=2), 2_000]),
        (prune.completed, [timedelta(days=7), 5_000]),
        (prune.ledger, [timedelta(days=35), 5_000]),
    ],
)
async def test_it_reads_only_what_is_due(
    database: TestDatabase, query: Callable[..., Any], arguments: list[Any]
) -> None:
    await database.pool.execute(FILL)
    found = re.search(
        r'"""\n(\s+(?:WITH|SELECT|DELETE).*?)"""', inspect.getsource(query), re.DOTALL
    )
    assert found is not None

    plan = await database.pool.fetch(f"EXPLAIN {found[1]}", *arguments)

    text = "\n".join(row[0] for row in plan)
    assert re.search(r"Index Cond: .*(scheduled|completed|next_run|decided)_?a?t? ?<", text), text
