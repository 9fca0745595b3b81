"""Rows as no client of ours writes them, in both layouts, while our leader and oban-py's do all their duties."""

import pytest

import quarterjack
from quarterjack import NewJob
from tests.conftest import TestDatabase
from tests.interop.oban_py import oban_py
from tests.processes import cluster
from tests.waiting import until

pytestmark = pytest.mark.newest_postgres
BUSY = {
    "queues": {"py": 5},
    "leadership": True,
    "stager": {"interval": 0.1},
    "lifeline": {"interval": 0.2, "rescue_after": 0.2},
    "pruner": {"interval": 0.2, "max_age": 3_600},
    "metrics": {"interval": 0.2},
}
NEVER = "'{a,b,c}'"
ROWS = [
    ("retryable", {"args": "'[1]'"}),
    ("retryable", {"args": "'null'"}),
    ("retryable", {"args": "('{\"n\": ' || repeat('9', 5000) || '}')::jsonb"}),
    ("retryable", {"args": "(repeat('[', 5000) || repeat(']', 5000))::jsonb"}),
    ("completed", {"args": "jsonb_build_object('big', repeat('x', 3000000))"}),
    ("completed", {"args": """'{"\U0001f642": "\u2028"}'"""}),
    ("completed", {"meta": "'[1]'"}),
    ("completed", {"meta": "'7'"}),
    ("completed", {"meta": """'{"snoozed": "often", "rescued": {}, "qj_unique": 7, "uniq_bmp": [1]}'"""}),
    ("completed", {"meta": """'{"qj_followed": 7, "qj_workflow": "x", "traceparent": [], "timeout": "x"}'"""}),
    ("completed", {"meta": """'{"cron_name": 7, "tick_id": {}, "schedule_id": "x", "tick_at": "never"}'"""}),
    ("completed", {"tags": "'{{a,b},{c,d}}'"}),
    ("completed", {"tags": "ARRAY[NULL, 'a,b', chr(10)]"}),
    ("completed", {"attempted_by": "'{a,b,c,d}'"}),
    ("completed", {"attempted_by": "'{{a,b,c},{d,e,f}}'"}),
    ("completed", {"attempted_by": "'[-3:-1]={a,b,c}'"}),
    ("completed", {"priority": "32767"}),
    ("completed", {"attempt": "32766", "max_attempts": "32767"}),
    ("completed", {"scheduled_at": "'infinity'"}),
    ("completed", {"inserted_at": "'-infinity'"}),
    ("completed", {"state": "'scheduled'", "scheduled_at": "'-infinity'"}),
    ("completed", {"state": "'scheduled'", "scheduled_at": "'0001-01-01'"}),
    ("completed", {"state": "'retryable'", "scheduled_at": "'4700-01-01 BC'", "attempt": "1"}),
    ("scheduled", {"state": "'scheduled'", "scheduled_at": "'infinity'"}),
    ("scheduled", {"state": "'scheduled'", "scheduled_at": "'294000-01-01'"}),
    ("suspended", {"state": "'suspended'"}),
    ("discarded", {"attempt": "20"}),
    ("discarded", {"state": "'retryable'", "scheduled_at": "'-infinity'", "attempt": "20"}),
    ("completed", {"state": "'executing'", "attempted_by": NEVER}),
    ("completed", {"state": "'executing'", "attempted_by": NEVER, "attempt": "1", "attempted_at": "'infinity'"}),
    ("discarded", {"state": "'executing'", "attempted_by": NEVER, "attempt": "20", "attempted_at": "'-infinity'"}),
    ("retryable", {"worker": "'Elixir.My.App.Worker'"}),
    ("retryable", {"worker": "repeat('\u00fc', 127)"}),
    ("available", {"queue": "repeat('\u00fc', 127)"}),
    ("completed", {"errors": "ARRAY['null'::jsonb, '7', '{\"at\": 7, \"error\": {}}']"}),
    ("discarded", {"errors": "ARRAY[ARRAY['{}'::jsonb]]", "attempt": "19", "worker": "'fail'"}),
    ("completed", {"meta": "NULL", "tags": "NULL", "attempted_by": "NULL"}),
]  # fmt: skip
ENDS = """
SELECT j.id, j.state::text
FROM unnest($1::bigint[], $2::text[]) AS wanted (id, state)
JOIN oban_jobs AS j USING (id)
WHERE j.state::text <> wanted.state
"""


async def _write(database: TestDatabase) -> dict[int, str]:
    """Write the rows that this layout takes; the state in which each should end."""
    document = await database.pool.fetchval(
        """
        SELECT format_type(atttypid, atttypmod) = 'jsonb' FROM pg_attribute
        WHERE attrelid = to_regclass('oban_jobs') AND attname = 'errors'
        """
    )
    wanted = {}
    for state, columns in ROWS:
        values = {"worker": "'count'", "queue": "'default'"} | columns
        if document and "NULL" in values.values():
            continue
        if document and "errors" in values:
            values["errors"] = f"to_jsonb({values['errors']})"
        statement = f"INSERT INTO oban_jobs ({', '.join(values)}) VALUES ({', '.join(values.values())}) RETURNING id"
        wanted[await database.pool.fetchval(statement)] = state
    return wanted


async def test_each_ends_and_holds_up_no_other(shared: TestDatabase) -> None:
    async with cluster(shared) as running, oban_py(shared, **BUSY):
        await running.scheduler()
        await running.worker(import_="tests.jobs", queues="default=50")
        await until(running.listening)
        wanted = await _write(shared)
        made = await quarterjack.enqueue_many(
            shared.pool,
            [NewJob(worker="count")] * 20 + [NewJob(worker="oban_node.Echo", queue="py")] * 20,
        )
        wanted |= {each.id: "completed" for each in made if each.id}

        async def ended() -> bool:
            return not await shared.pool.fetch(ENDS, list(wanted), list(wanted.values()))

        try:
            await until(ended, within=30)
        except TimeoutError:
            left = await shared.pool.fetch(ENDS, list(wanted), list(wanted.values()))
            assert left == []
