"""Schedules of other programs: what is carried over, what is noted, what is left out."""

import contextlib
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterjack.cli import tree, writing
from quarterjack.cli.importers import READERS, Imported, Options
from quarterjack.cli.importers.both_days import NotSayable, either_day
from quarterjack.cli.problems import FileInvalid
from tests.cli import samples
from tests.cli.conftest import Command


def read(source: str, text: str, **options: str | bool) -> Imported:
    name = {"crontab": "crontab.txt"}.get(source, "given")
    return READERS[source](name, text, Options(worker="run", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("source", sorted(READERS))
async def test_a_real_file_becomes_ours(source: str, command: Command) -> None:
    sample = samples.SAMPLES[source]
    path = command.write("given", sample.text)
    worker = ["--worker", "run"] if sample.needs_worker else []

    ran = await command.run("import", "--from", source, path, *worker)
    applied = await command.apply(ran.out)

    assert yaml.safe_load(ran.out)["schedules"] == sample.schedules
    assert ran.code == 2
    assert [said for said in sample.said if said not in ran.err] == []
    assert [said for said in sample.said if said not in ran.out] == []
    assert f"{len(sample.schedules)} made." in applied.out


def test_a_system_crontab_has_users() -> None:
    text = "17 *\t* * *\troot\tcd / && run-parts /etc/cron.hourly\n@daily\n"

    found = read("crontab", text, system=True)
    by_path = READERS["crontab"]("/etc/crontab", text, Options(worker="run"))

    args = {"command": "cd / && run-parts /etc/cron.hourly", "user": "root"}
    assert found.schedules["run-parts"]["args"] == args
    assert found.schedules == by_path.schedules
    assert found.left_out == ["line 2: '@daily': there is no command after the user"]


def test_a_crontab_without_a_zone_says_which_is_taken() -> None:
    assumed = read("crontab", "0 5 * * * x")
    told = read("crontab", "0 5 * * * x", timezone="Asia/Tokyo")

    assert "Etc/UTC is assumed" in assumed.head[0]
    assert (told.head, told.schedules["x"]["timezone"]) == ([], "Asia/Tokyo")


def test_carriage_returns_and_a_last_line_without_end_are_read() -> None:
    found = read("crontab", "0 5 * * * x\r\n# note\r\n0 6 * * * y")

    assert found.schedules["x"]["args"] == {"command": "x"}
    assert found.schedules["y"]["description"] == "note"


def test_a_zone_in_the_expression_of_a_cron_job_counts() -> None:
    text = samples.SWEEP.replace('"@every 1h30m"', '"CRON_TZ=Asia/Tokyo 0 5 * * *"')

    fields = read("kubernetes", text).schedules["sweep"]

    assert (fields["cron"], fields["timezone"]) == ("0 5 * * *", "Asia/Tokyo")


def test_a_list_of_cron_jobs_is_read() -> None:
    items = "".join(f"\n  {line}" for line in samples.SWEEP.splitlines()).replace(
        "  apiV", "- apiV", 1
    )

    found = read("kubernetes", f"kind: List\nitems:{items}\n")

    assert list(found.schedules) == ["sweep"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("concurrencyPolicy: Never", "'Never' is unknown"),
        ("startingDeadlineSeconds: soon", "'soon'"),
    ],
)
def test_values_that_kubernetes_would_not_take_are_left_out(policy: str, said: str) -> None:
    found = read("kubernetes", samples.SWEEP.replace("concurrencyPolicy: Replace", policy))

    assert not found.schedules
    assert said in found.left_out[0]


@pytest.mark.parametrize(
    "text",
    [
        '[{"@daily", My.Worker}]',
        '{"@daily", My.Worker}',
        '{"@daily", My.Worker},\n# {"@daily", My.Other}\n',
        'config :a, Oban, plugins: [{Oban.Plugins.Cron, crontab: [{"@daily", My.Worker}]}]',
        "plugins: [{Oban.Plugins.Cron, [crontab: [{'@daily', Elixir.My.Worker}]]}]",
        "crontab: [{~s(@daily), My.Worker, [args: %{}]}]",
    ],
)
def test_an_oban_crontab_is_found_in_many_forms(text: str) -> None:
    found = read("oban", text)

    assert found.left_out == []
    assert found.schedules["My.Worker"]["cron"] == "@daily"


def test_the_zone_of_an_oban_crontab_is_that_beside_it() -> None:
    text = """
    config :a, Other, timezone: "Asia/Tokyo"
    config :a, Oban, plugins: [
      {Oban.Plugins.Cron, crontab: [{"@daily", A}, {"@daily", B, timezone: "Asia/Seoul"}], timezone: "Europe/Paris"},
      {X, timezone: "Asia/Dubai"}]
    """

    found = read("oban", text)

    zones = {name: fields["timezone"] for name, fields in found.schedules.items()}
    assert zones == {"A": "Europe/Paris", "B": "Asia/Seoul"}


@pytest.mark.parametrize(
    ("day", "weekday", "expected"),
    [
        ("*", "1", ("*", "1")),
        ("13", "*", ("13", "*")),
        ("*/2", "1", ("*/2", "1")),
        ("1-7", "mon", ("*", "1#1")),
        ("8,9,10,11,12,13,14", "7", ("*", "0#2")),
        ("22-28", "FRIDAY", ("*", "5#4")),
        ("13", "5", None),
        ("1-7", "1-5", None),
        ("1-99", "1", None),
    ],
)
def test_both_days_are_only_said_where_that_is_possible(
    day: str, weekday: str, expected: tuple[str, str] | None
) -> None:
    if expected is None:
        with pytest.raises(NotSayable):
            either_day(day, weekday)
    else:
        assert either_day(day, weekday) == expected


@pytest.mark.parametrize(
    ("weekday", "ours"),
    [
        ("sunday", "0"),
        ("sun-tue", "0-2"),
        ("fri-mon", "5,6,0,1"),
        ("mon, wed", "1,3"),
        ("*/2", "*/2"),
        ("6-2/2", "6,1"),
        ("1-1", "1"),
    ],
)
def test_celerys_weekdays_are_written_for_a_crontab(weekday: str, ours: str) -> None:
    rows = samples.beat(crontab={"day_of_week": weekday})

    found = read("django-celery-beat", json.dumps(rows))

    assert found.schedules["t"]["cron"] == f"0 5 * * {ours}"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"crontab": 9}, "crontabschedule '9' is not in the file"),
        ({"crontab": None}, "neither crontab nor interval"),
        ({"crontab": None, "solar": 1}, "the sun has no schedule here"),
        ({"args": "[1]", "kwargs": '{"args": 1}'}, "positional arguments and one named args"),
        ({"kwargs": "{"}, "its kwargs '{' are not JSON"),
        ({"args": '{"a": 1}'}, "are no JSON list"),
        ({"task": ""}, "no task of at most 127"),
        ({"task": "celery.backend_cleanup"}, "belongs to Celery itself"),
    ],
)
def test_tasks_of_beat_that_cannot_be_carried_are_left_out(
    task: dict[str, object], said: str
) -> None:
    found = read("django-celery-beat", json.dumps(samples.beat(task=task)))

    assert not found.schedules
    assert said in found.left_out[0]


HOSTILE = [
    "", "[", "{", "[]", "[1]", '{"a": 1}', "[" * 100_000, "{" * 100_000, "%{" * 50_000, '"' * 99_999, "null", "- a",
    "\x01\x02", "kind: CronJob", "kind: CronJob\nspec: {schedule: 5, jobTemplate: 3}\nmetadata: {name: [1]}", "'",
    "crontab: [{", 'crontab: [{"@daily"}]', "crontab:", ":crontab", 'crontab: [{1, 2}, 3, :a, nil]', "* * * * *",
    "@", "@daily", "-", "%", "* * * * * %%%", "= = = = = =", 'X="', "0 0 * * * " + "a" * 100_000, "\u2028" * 9,
    '[{"model": "django_celery_beat.periodictask", "fields": {}}]', "[{\"model\": 1}]", "[" + "9" * 5_000 + "]",
    '[{"model": "django_celery_beat.periodictask", "fields": {"name": 1, "task": []}}]', "&a [*a]", "~s(" * 9_999,
    'kind: CronJob\nmetadata: {name: n}\nspec: {schedule: "* * * * *", jobTemplate: {spec: {template: {spec: '
    '{containers: [3]}}}}}',
]  # fmt: skip


def import_or_refuse(source: str, text: str) -> None:
    with contextlib.suppress(FileInvalid):
        found = read(source, text)
        writing.write_schedules(found.schedules, head=found.left_out, notes=found.notes)


@pytest.mark.parametrize("source", sorted(READERS))
def test_hostile_input_is_taken_or_refused(source: str) -> None:
    for text in HOSTILE:
        import_or_refuse(source, text)


@settings(max_examples=300, deadline=2_000)
@given(text=st.text(st.sampled_from("{}[]()%\"'\\~s:=>,#abA.0 \n*@-/"), max_size=60))
def test_any_text_is_taken_or_refused(text: str) -> None:
    for source in READERS:
        import_or_refuse(source, text)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")) | st.sampled_from(
    ["yes", "n", "0755", "1e5", "12:30", "2026-01-01", "~", "<<", "=", "a: b", "# x", "- x", "!x", "&x", "*x", " x ",
     "0x1f", "1_000", ".5", "x\n", "\n x", "x\n\n", "\u2028", "\ufeff", "\x85", "@daily", "*/5 * * * *", "%a", "|", ">"]
)  # fmt: skip
VALUES = st.recursive(
    LEAVES | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=2_000)
@given(args=st.dictionaries(TEXTS, VALUES, max_size=4))
def test_whatever_is_written_is_read_back(args: dict[str, object]) -> None:
    text = writing.write_schedules(
        {"a": {"args": args}}, head=["x\ny: z"], notes={"a": ["\x85 b: c"]}
    )

    [document] = tree.read_documents("written", text)

    found = document.get("schedules", "a", "args")
    assert found is not None
    assert found.plain() == args
