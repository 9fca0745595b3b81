"""A file of schedules is applied: all of it or nothing, and a second time changes nothing."""

import asyncio

import asyncpg
import pytest

from tests.cli.conftest import Command
from tests.conftest import TestDatabase

pytestmark = pytest.mark.newest_postgres

FILE = """
x-defaults: &defaults
  worker: report
  timezone: Europe/Prague
schedules:
  nightly:
    <<: *defaults
    cron: 30 2 * * *
    args: {region: eu, ids: [1, 2]}
    timeout: 1h 30m
    jitter: 90s
    end_at: 2030-12-31 18:00
    blackouts: [sat,sun]
    uniqueness: {period: 10m, states: incomplete}
  hourly:
    <<: *defaults
    cron: "@hourly"
    queue: reports
    paused: until the move
"""
TYPE = """
INSERT INTO qj_job_types (worker, args_schema, queue, priority, max_attempts, tags, redacted, registered_by)
VALUES ('report', $1, 'sums', 3, 5, '{money}', '{account}', 'worker-1')
"""
SCHEMA = {"type": "object", "properties": {"region": {"type": "string"}}}
VERSIONS = "SELECT count(*) AS n, max(version) AS newest FROM qj_schedule_versions"


async def names(database: TestDatabase) -> list[str]:
    rows = await database.pool.fetch("SELECT name FROM qj_schedules ORDER BY name")
    return [row["name"] for row in rows]


async def test_a_file_makes_schedules_with_author_and_reason(
    command: Command, database: TestDatabase
) -> None:
    ran = await command.apply(FILE, "--reason", "the first of them")

    assert (ran.code, ran.err) == (0, "")
    assert "2 made." in ran.out
    row = await database.row("SELECT * FROM qj_schedules WHERE name = 'nightly'")
    assert (row["cron"], row["timezone"], row["managed_by"]) == (
        "30 2 * * *",
        "Europe/Prague",
        "file",
    )
    assert row["args"] == {"region": "eu", "ids": [1, 2]}
    assert row["timeout"].total_seconds() == 5400
    assert row["end_at"].isoformat() == "2030-12-31T17:00:00+00:00"
    assert row["uniqueness"]["period"] == 600
    paused = await database.row("SELECT * FROM qj_schedules WHERE name = 'hourly'")
    assert (paused["paused_reason"], paused["paused_by"]) == ("until the move", "file:deploy.yaml")
    version = await database.row("SELECT DISTINCT author, reason FROM qj_schedule_versions")
    assert tuple(version) == ("file:deploy.yaml", "the first of them")
    audit = await database.row("SELECT count(*) AS n, min(action) AS action FROM qj_audit")
    assert tuple(audit) == (2, "apply schedule")


async def test_a_second_time_changes_nothing(command: Command, database: TestDatabase) -> None:
    await command.apply(FILE)

    ran = await command.apply(FILE)
    dry = await command.apply(FILE, "--dry-run")

    assert "nothing changed; 2 unchanged." in ran.out
    assert (dry.code, "nothing would change" in dry.out) == (0, True)
    assert tuple(await database.row(VERSIONS)) == (2, 1)


async def test_a_dry_run_writes_nothing_and_tells(command: Command, database: TestDatabase) -> None:
    ran = await command.apply(FILE, "--dry-run")

    assert ran.code == 2
    assert "+ nightly: make" in ran.out
    assert "dry run, nothing was written: 2 made." in ran.out
    assert await names(database) == []


async def test_what_is_left_out_is_the_job_types(command: Command, database: TestDatabase) -> None:
    await database.pool.execute(TYPE, SCHEMA)

    await command.apply("schedules: {a: {worker: report, cron: '@daily', priority: 1}}")

    row = await database.row("SELECT queue, priority, max_attempts, tags FROM qj_schedules")
    assert tuple(row) == ("sums", 1, 5, ["money"])


async def test_an_edit_in_the_page_is_shown_and_put_back(
    command: Command, database: TestDatabase
) -> None:
    await command.apply(FILE)
    await database.pool.execute(
        "UPDATE qj_schedules SET cron = '0 5 * * *', updated_by = 'ana' WHERE name = 'nightly'"
    )

    ran = await command.apply(FILE)

    assert "~ nightly: change" in ran.out
    assert "cron: 0 5 * * * -> 30 2 * * * (changed by ana on " in ran.out
    assert "version 2; put back)" in ran.out
    row = await database.row("SELECT cron, version FROM qj_schedules WHERE name = 'nightly'")
    assert tuple(row) == ("30 2 * * *", 3)


async def test_a_change_of_the_file_is_no_drift(command: Command) -> None:
    await command.apply(FILE)

    ran = await command.apply(FILE.replace("30 2 * * *", "0 6 * * *"))

    assert "cron: 30 2 * * * -> 0 6 * * *\n" in ran.out


async def test_a_pause_in_the_page_stays_unless_the_file_says_otherwise(
    command: Command, database: TestDatabase
) -> None:
    await command.apply(FILE)
    await database.pool.execute(
        "UPDATE qj_schedules SET paused_at = now(), paused_by = 'ana', paused_reason = 'incident'"
        " WHERE name = 'nightly'"
    )

    await command.apply(FILE)
    kept = await database.row("SELECT paused_by FROM qj_schedules WHERE name = 'nightly'")
    ran = await command.apply(FILE.replace("timeout:", "paused: false\n    timeout:"))

    assert kept["paused_by"] == "ana"
    assert "paused: incident -> false" in ran.out
    row = await database.row(
        "SELECT paused_at, paused_reason FROM qj_schedules WHERE name = 'nightly'"
    )
    assert tuple(row) == (None, None)


@pytest.mark.parametrize(("manager", "said"), [("ui", "the page"), ("code", "its worker's code")])
async def test_what_others_manage_is_refused_unless_adopted(
    command: Command, database: TestDatabase, manager: str, said: str
) -> None:
    await database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron, managed_by) VALUES ('a', 'w', '@daily', $1)",
        manager,
    )
    text = "schedules:\n  a: {worker: w, cron: '@daily'}\n"

    refused = await command.apply(text)
    adopted = await command.apply(text, "--adopt")

    assert refused.code == 1
    assert f"deploy.yaml:2: a: is managed by {said}: give --adopt" in refused.err
    assert "1 adopted." in adopted.out
    row = await database.row("SELECT managed_by FROM qj_schedules")
    assert row["managed_by"] == "file"


async def test_two_files_do_not_take_each_others_schedules(
    command: Command, database: TestDatabase
) -> None:
    one = "source: billing\nschedules: {a: {worker: w, cron: '@daily'}}"
    await command.apply(one, name="schedules.yaml")
    other = "source: mail\nschedules: {b: {worker: w, cron: '@daily'}}"

    pruned = await command.apply(other, "--prune", name="schedules.yaml")
    refused = await command.apply(one.replace("billing", "mail"), name="schedules.yaml")
    await command.apply(one.replace("billing", "mail"), "--adopt")

    assert "1 made." in pruned.out
    assert "a: is managed by billing" in refused.err
    row = await database.row("SELECT source, version FROM qj_managed ORDER BY schedule_id")
    assert tuple(row) == ("mail", 1)


async def test_only_prune_removes_what_the_file_has_lost(
    command: Command, database: TestDatabase
) -> None:
    await database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron) VALUES ('of-the-page', 'w', '@daily')"
    )
    await command.apply(FILE)
    less = "schedules: {nightly: {worker: report, cron: 30 2 * * *}}"

    kept = await command.apply(less)
    names_then = await names(database)
    await command.apply(less, "--prune")

    assert "! hourly: no longer in the file: --prune removes it" in kept.out
    assert names_then == ["hourly", "nightly", "of-the-page"]
    assert await names(database) == ["nightly", "of-the-page"]


async def test_an_empty_file_prunes_all_of_its_own(
    command: Command, database: TestDatabase
) -> None:
    await command.apply(FILE)

    ran = await command.apply("schedules: {}", "--prune")

    assert "2 removed." in ran.out
    assert await names(database) == []


async def test_secrets_are_not_printed(command: Command, database: TestDatabase) -> None:
    await database.pool.execute(TYPE, {})
    text = "schedules: {a: {worker: report, cron: '@daily', args: {api_token: s3cr3t, account: s3cr3t}}}"

    made = await command.apply(text)
    changed = await command.apply(text.replace("s3cr3t", "s3cr3t-2"))

    assert "s3cr3t" not in made.out + changed.out
    assert "args: a hidden value changes" in changed.out


async def test_a_failure_in_the_middle_leaves_nothing(
    command: Command, database: TestDatabase
) -> None:
    await database.pool.execute("ALTER TABLE qj_schedules ADD CONSTRAINT no_b CHECK (name <> 'b')")
    lines = [f"  {name}: {{worker: w, cron: '@daily'}}" for name in "abc"]
    three = "\n".join(["schedules:", *lines])

    ran = await command.apply(three)

    assert ran.code == 1
    assert "no_b" in ran.err
    assert await names(database) == []


async def test_two_at_once_end_as_one(command: Command, database: TestDatabase) -> None:
    path = command.write("deploy.yaml", FILE)

    rans = await asyncio.gather(*(command.run("apply", path) for _ in range(4)))

    assert {ran.code for ran in rans} <= {0, 1}
    assert all("run it again" in ran.err for ran in rans if ran.code)
    assert await names(database) == ["hourly", "nightly"]
    assert (await database.row(VERSIONS))["n"] == 2


async def test_an_old_or_absent_database_is_said(
    offline: Command, empty_database: TestDatabase
) -> None:
    absent = await offline.apply(FILE)
    old = await Command(directory=offline.directory, url=empty_database.url).apply(FILE)

    assert (absent.code, old.code) == (1, 1)
    assert "cannot reach the database" in absent.err
    assert "run quarterjack-migrate" in old.err


async def test_the_scheduler_is_told(command: Command, database: TestDatabase) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(database.url)
    await listener.add_listener("public.qj_schedules", lambda *said: heard.put_nowait(said[-1]))

    await command.apply(FILE)

    async with asyncio.timeout(10):
        assert '"version"' in await heard.get()
    await listener.close()
