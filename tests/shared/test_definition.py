"""What may be said of a schedule, and that it is written as it is read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quarterjack import cron, durations
from quarterjack.definition import Definition

EVERY = {
    "cron": "0 9 * * *",
    "timezone": "Europe/Prague",
    "jitter": "5m",
    "start_at": "2026-12-01 08:00",
    "end_at": "2027-01-01T00:00:00+00:00",
    "blackouts": ["sat,sun", "22:00-06:00"],
    "calendars": ["holidays"],
    "args": {"region": "eu"},
    "catchup_window": "1h 30m",
    "timeout": "90s",
    "expected_within": "2d",
    "max_failures": 3,
}


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)))
def test_a_duration_is_read_as_it_is_written(duration: timedelta) -> None:
    assert durations.read(durations.write(duration)) == duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h 30m", 5_400), ("1h30m", 5_400), ("1.5 hours", 5_400), ("2 W", 1_209_600)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert durations.read(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "90", "h", "-1h", "1 fortnight", "1h and 2m", "9" * 400, "999999999w"]
)
def test_what_is_no_duration_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s, 30m"):
        durations.read(text)


def test_a_definition_is_read_as_it_is_written() -> None:
    read = Definition.model_validate(EVERY)

    assert Definition.model_validate(read.written()) == read
    assert read.start_at == datetime(2026, 12, 1, 7, tzinfo=UTC)
    assert read.written()["end_at"] == "2027-01-01 01:00"


def test_an_instant_that_comes_twice_keeps_its_offset() -> None:
    given = {"cron": "* * * * *", "timezone": "Europe/Prague"}
    later = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)

    read = Definition.model_validate({**given, "start_at": later})

    assert read.written()["start_at"] == "2026-10-25 02:30:00+01:00"
    assert Definition.model_validate(read.written()).start_at == later


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cron", "61 * * * *", "minute"),
        ("timezone", "Mars/Olympus", "no time zone"),
        ("jitter", "2d", "less than or equal"),
        ("end_at", "2026-11-30", "before the start"),
        ("end_at", "2026-12-01 08:59", "there is no tick"),
        ("blackouts", ["never"], "is no day"),
        ("blackouts", ["sat"] * 51, "at most 50"),
        ("timeout", "0s", "greater than"),
        ("catchup_window", "forever", "no length of time"),
        ("uniqueness", {}, "not permitted"),
    ],
)
def test_what_cannot_be_used_is_said_by_its_field(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Definition.model_validate({**EVERY, field: value})

    (problem,) = refused.value.errors()
    assert problem["loc"][0] == field
    assert said in problem["msg"]


def test_a_row_that_names_an_unknown_calendar_cannot_be_read() -> None:
    named = Definition.model_validate(EVERY).named("nightly")

    with pytest.raises(cron.CronError, match="there is no calendar 'holidays'") as refused:
        cron.Timing.of(named, {})

    assert refused.value.field == "calendars"
