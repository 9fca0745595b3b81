"""What is exported can be applied again."""

import pytest

from tests.cli.conftest import Command
from tests.cli.test_apply import FILE, SCHEMA, TYPE
from tests.conftest import TestDatabase

pytestmark = pytest.mark.newest_postgres


async def test_an_export_changes_nothing(command: Command, database: TestDatabase) -> None:
    await database.pool.execute(TYPE, SCHEMA)
    await command.apply(FILE)
    ran = await command.run("export")

    again = await command.apply(ran.out, "--dry-run", name="another.yaml")

    assert (again.code, again.err) == (0, "")
    assert "nothing would change; 2 unchanged." in again.out
    assert ran.out.startswith("source: deploy.yaml\nschedules:\n  hourly:\n    worker: report\n")
    assert "timeout: 1h 30m" in ran.out
    assert "paused: until the move" in ran.out
    assert "catchup" not in ran.out


async def test_an_export_of_the_pages_schedules_needs_adoption(
    command: Command, database: TestDatabase
) -> None:
    await database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron, args)"
        " VALUES ('a', 'w', '@daily', $1), ('b', 'w', '@daily', '{}')",
        {"yes": "no", "at": "12:30", "n": 1e20, "deep": [{"x": None}], "text": "two\nlines\n"},
    )

    ran = await command.run("export", "--name", "a")
    absent = await command.run("export", "--name", "z")
    dry = await command.apply(ran.out, "--adopt", "--dry-run")

    assert "# managed by the page: --adopt takes it over" in ran.out
    assert "~ a: managed by this file from now on, nothing else changes" in dry.out
    assert (absent.code, absent.out) == (1, "")
    assert "there is no schedule z" in absent.err
