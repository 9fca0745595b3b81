"""What is wrong with a file is said with its line, all of it at once, whatever the file holds."""

import pytest

from tests.cli.conftest import Command
from tests.conftest import TestDatabase

WRONG = """
schedules:
  a:
    worker: x
    cron: 61 * * * *
    timezne: UTC
    timeout: 30
    priority: true
    args: {p: yes}
  a: {worker: z, cron: "@daily"}
  b c: {}
  d:
    worker: z
    cron: "@daily"
    timezone: Mars
    tags: [1]
    start_at: soon
    paused: 3
    uniqueness: {period: 5}
    jitter: 2d
  e: {worker: z, cron: "@daily", calendars: [nope]}
  f: {cron: "@daily", args: {x: .inf, y: 0755, z: 12:30}}
  g: 3
"""
SAID = [
    "5: a: cron: '61' in the minute field: give numbers from 0 to 59",
    "6: a: 'timezne' is unknown: did you mean timezone?",
    "7: a: timeout: 30 of what? Write a unit, such as 30s or 30m",
    "8: a: priority: true is no value of it",
    "9: yes is read differently by YAML programs",
    "10: 'a' is given twice, first in line 3",
    "11: the name 'b c': use letters",
    "15: d: timezone: 'Mars' is no time zone",
    "16: d: tags.0: Input should be a valid string",
    "17: d: start_at: ",
    "18: d: paused: write true, false, or the reason",
    "19: d: uniqueness: period: 5 of what?",
    "20: d: jitter: ",
    "21: e: calendars: there is no calendar 'nope'",
    "22: .inf is read differently by YAML programs",
    "22: 0755 is read differently by YAML programs",
    "22: 12:30 is read differently by YAML programs",
    "22: f: worker: is missing",
    "23: g: give a mapping with worker and cron",
]


async def test_every_problem_is_said_at_once(command: Command, database: TestDatabase) -> None:
    ran = await command.apply(WRONG)

    assert (ran.code, ran.out) == (1, "")
    assert [line for line in SAID if f"deploy.yaml:{line}" not in ran.err] == []
    assert f"nothing was written: {len(SAID)} problems to put right" in ran.err
    assert (await database.row("SELECT count(*) AS n FROM qj_schedules"))["n"] == 0


async def test_args_that_the_job_does_not_take_are_said(
    command: Command, database: TestDatabase
) -> None:
    await database.pool.execute(
        "INSERT INTO qj_job_types (worker, args_schema, registered_by) VALUES ('w', $1, 'worker-1')",
        {"type": "object", "properties": {"n": {"type": "integer"}}},
    )

    ran = await command.apply(
        "schedules:\n  a:\n    worker: w\n    cron: '@daily'\n    args: {n: one}\n"
    )

    assert "deploy.yaml:5: a: args: w takes no such args: n: 'one' is not" in ran.err


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "aliases stand for more than 50000 values"),
        ("[" * 100, "nested deeper than 60 levels"),
        ("[" * 100_000, "nest"),
        ("{a: " * 100_000, "nest"),
        ("- " * 100_000, "nest"),
        ("a: " * 3, "deploy.yaml:1: not YAML: mapping values are not allowed"),
        ("schedules: !!python/object/apply:os.system [ls]", "has no meaning here"),
        ("schedules: {a: *b}", "the alias *b has no anchor &b before it"),
        ("schedules: {a: &a [*a]}", "the alias *a has no anchor &a before it"),
        ("schedules: {? [x] : y}", "a key must be a text"),
        ("- a", "there is no mapping schedules: at the top"),
        ("", "there is no mapping schedules: at the top"),
        ("schedules: {}\n---\nschedules: {}", "deploy.yaml:3: a second document"),
        ("schedule: {}", "there is no mapping schedules: at the top"),
        ("source: a b\nschedules: {}", "source: use letters"),
        (b"schedules:\n  a: \xff", "deploy.yaml:2: the byte 0xff is not UTF-8"),
        ("schedules: {}".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        (b"schedules: \x00", "a NUL character"),
        (b"schedules: \x07", "not YAML"),
        (b"\x89PNG\r\n\x1a\n", "the byte 0x89 is not UTF-8"),
        (b"#" * 5_000_001, "has more than 5 MB"),
        ("schedules: {a: {worker: w, cron: '@daily', args: {n: " + "9" * 400 + "}}}", ""),
        ("schedules: {a: {worker: w, cron: '@daily', start_at: 2026}}", "2026 is no time"),
        ("schedules: {a: {worker: w, cron: '@daily', args: {x: .nan}}}", ""),
        ("schedules: {a: {worker: w, cron: '@daily', args: {x: \"\\0\"}}}", "holds a NUL character"),
        ("schedules: {a: {worker: w, cron: '@daily', args: {x: \"\\ud800\"}}}", ""),
        ("schedules: {a: {worker: w, cron: '@daily', description: " + "x" * 3000 + "}}", "2000"),
    ],
)  # fmt: skip
async def test_hostile_files_are_refused_in_words(
    offline: Command, content: str | bytes, said: str
) -> None:
    ran = await offline.run("apply", offline.write("deploy.yaml", content), "--dry-run")

    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert len(ran.err) < 1_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["apply", "absent.yaml"], "absent.yaml: cannot be read: No such file or directory"),
        (["apply", "."], ".: cannot be read: Is a directory"),
        (["apply"], "the following arguments are required: FILE"),
        ([], "the following arguments are required"),
        (["import", "--from", "crontab", "x"], "--from crontab needs --worker"),
        (["import", "--from", "cron", "x"], "invalid choice: 'cron'"),
        (["import", "--from", "oban", "--timezone", "Mars", "x"], "--timezone: 'Mars' is no time"),
    ],
)
async def test_a_wrong_command_is_said(offline: Command, arguments: list[str], said: str) -> None:
    ran = await offline.run(*arguments)

    assert ran.code == 1
    assert said in ran.err


async def test_standard_input_is_a_file_too(command: Command) -> None:
    ran = await command.run("apply", "-", stdin="schedules: {a: {worker: w, cron: '@daily'}}")

    assert "1 made." in ran.out
