"""One schedule with its job type, and the form that edits it."""

from tests.admin.conftest import Visitor
from tests.conftest import TestDatabase

SCHEDULE = """
INSERT INTO qj_schedules (name, worker, cron, timezone, args, description)
VALUES ('nightly', 'count', '30 2 * * *', 'Europe/Prague', $1, 'Count the stars.')
"""
TYPE = """
INSERT INTO qj_job_types (worker, args_schema, redacted, registered_by, queue)
VALUES ('count', $1, '{account}', 'worker-1', 'sums')
"""
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": True}


async def seed(database: TestDatabase, args: dict[str, object] | None = None) -> None:
    await database.pool.execute(SCHEDULE, args or {})
    await database.pool.execute(TYPE, SCHEMA)


async def edit(visitor: Visitor, **changes: str) -> dict[str, str]:
    return (await visitor.get("/schedules/nightly/edit")).fields() | changes
