"""What Oban Web is told: readable by every Oban, harmless, small enough to be sent."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterjack import channels, cron, oban_web
from quarterjack.oban_web import Audience, Check, Ended, Entry, Told
from tests.interop.met import RANGES, STATES, Harmed, Met, parse_as_elixir, read

NOW = datetime(2026, 11, 1, tzinfo=UTC)
names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=127)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
)
checks = st.builds(
    Check,
    uuid=st.uuids(),
    queue=names,
    limit=st.integers(1, 10_000),
    paused=st.booleans(),
    running=st.lists(st.integers(1, 2**63 - 1), max_size=50),
)
endings = st.builds(
    Ended,
    queue=names,
    worker=names,
    state=st.sampled_from(sorted(STATES)),
    ran=st.integers(-(2**60), 2**60),
    waited=st.integers(-(2**60), 2**60),
)
entries = st.builds(
    Entry,
    name=names,
    cron=st.sampled_from(["* * * * *", "@daily", "0 6 * * mon", "every 90 seconds"]).map(cron.read),
    worker=names,
    args=st.dictionaries(names, json_values, max_size=4),
    queue=names,
    timezone=st.sampled_from(["Etc/UTC", "Europe/Prague"]),
    priority=st.integers(0, 9),
    max_attempts=st.integers(1, 32_767),
    tags=st.lists(names, max_size=3),
)
found = st.lists(
    st.tuples(st.sampled_from(sorted(STATES)), names, st.integers(0, 2**40)), max_size=30
)


def met_after(told: Told) -> Met:
    met = Met()
    for channel, payload in told:
        met.hear(channel, payload)
    return met


@settings(max_examples=60)
@given(
    node=names,
    running=st.lists(checks, max_size=5),
    ended=st.lists(endings, max_size=30),
    shown=st.lists(entries, max_size=10),
    found=found,
)
def test_whatever_is_told_harms_no_oban(
    node: str, running: list[Check], ended: list[Ended], shown: list[Entry], found: Any
) -> None:
    met_after(oban_web.gossip(node, NOW, running))
    met_after(oban_web.executions(node, ended))
    met_after(oban_web.counts(node, found))
    met_after(oban_web.crontab(node, shown))


@settings(max_examples=50)
@given(message=st.dictionaries(names, json_values, max_size=20))
def test_a_payload_comes_back_as_it_was(message: dict[str, Any]) -> None:
    payload = channels.encode(message)

    assert channels.decode(payload) == message
    if len(payload) <= channels.LONGEST_PAYLOAD:
        assert read(payload) == message


def test_a_long_payload_is_packed_so_that_older_obans_read_it() -> None:
    payload = channels.encode({"a": "b" * 20_000})

    assert payload.startswith("H4sI")
    assert len(payload) < 200
    with pytest.raises(Harmed):
        read(f"Z:{payload}")


@pytest.mark.parametrize("jobs", [2_000, 10_000])
def test_a_queue_with_many_jobs_still_shows_itself(jobs: int) -> None:
    ids = [10**18 + n * n * 7919 for n in range(jobs)]
    check = Check(uuid=uuid4(), queue="busy", limit=10_000, paused=False, running=ids)
    idle = Check(uuid=uuid4(), queue="idle", limit=1, paused=True, running=[])

    met = met_after(oban_web.gossip("n", NOW, [check, idle]))

    shown = met.checks["n", "Oban", "busy"]["running"]
    assert ids[: len(shown)] == shown
    assert len(shown) > 100
    assert met.checks["n", "Oban", "idle"]["paused"] is True


def test_what_ended_is_counted_and_sorted_into_bins() -> None:
    ended = [
        Ended(queue="q", worker="w", state="completed", ran=ran, waited=0)
        for ran in (1, 1_000, 1_001)
    ]

    count, ran, waited = met_after(oban_web.executions("n", ended)).metrics

    assert (count["series"], count["value"]) == ("exec_count", {"data": [3]})
    assert (ran["series"], ran["value"]) == ("exec_time", {"data": {"0": 1, "173": 2}, "size": 3})
    assert (waited["series"], waited["value"]) == ("wait_time", {"data": {"0": 3}, "size": 3})


def test_many_kinds_of_jobs_take_several_messages() -> None:
    ended = [
        Ended(queue=uuid4().hex, worker=uuid4().hex, state="completed", ran=n, waited=n)
        for n in range(500)
    ]

    told = oban_web.executions("n", ended)

    assert len(told) > 1
    series = Counter(each["series"] for each in met_after(told).metrics)
    assert series == {"exec_count": 500, "exec_time": 500, "wait_time": 500}


def entry(name: str, **changes: Any) -> Entry:
    options: dict[str, Any] = {
        "cron": cron.read("0 6 * * *"),
        "worker": "w",
        "args": {},
        "queue": "mail",
        "timezone": "Europe/Prague",
        "priority": 0,
        "max_attempts": 20,
        "tags": [],
    }
    return Entry(name=name, **options | changes)


def test_a_schedule_is_shown_with_what_run_now_needs() -> None:
    [[expression, worker, options]] = met_after(oban_web.crontab("n", [entry("daily")])).crontab()

    assert (expression, worker) == ("0 6 * * *", "w")
    assert (options["name"], options["queue"], options["timezone"]) == (
        "daily",
        "mail",
        "Europe/Prague",
    )


def test_many_schedules_are_all_kept() -> None:
    many = [entry(f"s{n}", args={"key": uuid4().hex * 4}) for n in range(500)]

    met = met_after(oban_web.crontab("n", many))

    assert [options["name"] for _, _, options in met.crontab()] == [each.name for each in many]
    assert len(met.crontabs) > 1


def test_a_schedule_too_large_to_send_is_left_out() -> None:
    huge = entry("huge", args={"key": "".join(uuid4().hex for _ in range(400))})

    met = met_after(oban_web.crontab("n", [entry("a"), huge, entry("b")]))

    assert [options["name"] for _, _, options in met.crontab()] == ["a", "b"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("*/15 * * * *", "*/15 * * * *"),
        ("0 6 * * mon-fri", "0 6 * * 1,2,3,4,5"),
        ("0 6 * * 7", "0 6 * * 0"),
        ("0 0 13 jan,jul *", "0 0 13 1,7 *"),
        ("0 0 */2 * mon", "0 0 */2 * 1"),
        ("@yearly", "0 0 1 1 *"),
        ("0 * * * * *", "* * * * *"),
        ("30 * * * * *", None),
        ("0 0 13 * fri", None),
        ("0 0 L * *", None),
        ("0 0 * * mon#1", None),
        ("every 90 seconds", None),
    ],
)
def test_an_expression_is_said_in_obans_words_or_not_at_all(ours: str, theirs: str | None) -> None:
    assert oban_web.in_obans_words(cron.read(ours)) == theirs


@settings(max_examples=100)
@given(data=st.data())
def test_obans_words_mean_the_same(data: st.DataObject) -> None:
    parts = [
        ",".join(map(str, data.draw(st.lists(st.integers(low, high), min_size=1, max_size=9))))
        for low, high in RANGES
    ]
    free = data.draw(st.sampled_from([2, 4]))
    parts[free] = data.draw(st.sampled_from(["*", "*/2", "*/3"]))
    if free == 4:
        parts[3] = "*"
    said = oban_web.in_obans_words(parsed := cron.parse(" ".join(parts)))

    assert said is not None
    fields = parsed.fields
    assert parse_as_elixir(said) == [
        set(each)
        for each in (fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays)
    ]


def test_only_another_program_is_an_audience() -> None:
    audience = Audience()
    [(_, payload)] = oban_web.crontab("n", [])
    audience.heard(read(payload))
    assert not audience.present

    audience.heard({"crontab": [], "name": "Oban", "node": "web-1"})

    assert audience.present
