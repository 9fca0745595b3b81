"""What is read, what is refused, and how it is said; tests/cron compares the ticks with a brute force."""

from datetime import UTC, datetime

import pytest

from quarterjack import cron


@pytest.mark.parametrize(
    ("text", "field", "advice"),
    [
        ("", "cron", "five fields"),
        ("* * * *", "cron", "4 fields"),
        ("@reboot", "cron", "@hourly"),
        ("@every 5m", "cron", "nickname"),
        ("5-5 * * * *", "minute", "write 5"),
        ("* 22-3 * * *", "hour", "write 22-23,0-3"),
        ("* * * * fri-sun", "weekday", "write fri-7"),
        ("3/5 * * * *", "minute", "3-59/5"),
        ("*/61 * * * *", "minute", "1 to 60"),
        ("60 * * * *", "minute", "0 to 59"),
        ("R * * * *", "minute", "0 to 59"),
        ("H * * * *", "minute", "schedule's name"),
        ("0\x1c0 * * *", "cron", "printable ASCII"),
        ("* * * * *\n* * * * *", "cron", "printable ASCII"),
        ("mon#" + "9" * 240, "cron", "1 fields"),
        ("* * * * mon#" + "9" * 240, "weekday", "1 to 5"),
        ("@" + "x" * 250, "cron", "nickname"),
        ("* * 15W * *", "day", "1 to 31"),
        ("* * ? * *", "day", "1 to 31"),
        ("0 0 31 2 *", "day", "does not exist"),
        ("0 0 30 feb *", "day", "does not exist"),
        ("* * * * mon#6", "weekday", "1 to 5"),
        ("1,,2 * * * *", "minute", "0 to 59"),
        ("9" * 200 + " * * * *", "minute", "0 to 59"),
        ("1," * 10_000, "cron", "at most 255"),
        ("５ * * * *", "cron", "ASCII"),
    ],
)
def test_what_others_would_guess_at_is_refused(text: str, field: str, advice: str) -> None:
    with pytest.raises(cron.CronError) as refused:
        cron.parse(text)

    assert refused.value.field == field
    assert advice in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*/2 * * * *", "Every 2 minutes"),
        ("* * * * *", "Every minute"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("30 2 * * *", "At 02:30 every day"),
        ("0 9 * * mon-fri", "At 09:00 on Monday to Friday"),
        ("*/15 9-17 * * *", "Every 15 minutes from 09:00 to 17:59"),
        ("0 0 L * *", "At 00:00 on the last day of the month"),
        ("0 9 * * mon#1", "At 09:00 on the first Monday of the month"),
        ("0 0 13 * 5", "At 00:00 on day 13 of the month or on Friday"),
        ("5,35 * * * *", "At :05 and :35 of every hour"),
        ("0 0 1 jan *", "At 00:00 on day 1 of the month in January"),
        ("@hourly", "Every hour"),
        ("*/7 * * * *", "Every 7 minutes from :00 to :56 of every hour"),
    ],
)
def test_an_expression_is_said_in_words(text: str, words: str) -> None:
    assert cron.parse(text).describe() == words


def test_the_last_day_and_nth_weekdays_follow_the_month() -> None:
    start = datetime(2028, 1, 31, 12, tzinfo=UTC)

    assert cron.parse("0 0 L * *").next_after(start, UTC) == datetime(2028, 2, 29, tzinfo=UTC)
    assert cron.parse("0 0 * * 2#5").next_after(start, UTC) == datetime(2028, 2, 29, tzinfo=UTC)
    assert cron.parse("0 0 29 2 *").next_after(datetime(2096, 3, 1, tzinfo=UTC), UTC) == datetime(
        2104, 2, 29, tzinfo=UTC
    )


def test_a_friday_the_thirteenth_needs_a_star_in_one_field() -> None:
    year = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC)

    assert len(list(cron.parse("0 0 13 * fri").ticks(*year, UTC))) == 61


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(cron.CronError, match="IANA name") as refused:
        cron.zone("Mars/Olympus")

    assert refused.value.field == "timezone"
    assert cron.zone("Europe/Berlin").key == "Europe/Berlin"


def test_the_calendar_ends() -> None:
    assert cron.parse("0 0 * * *").next_after(datetime(9999, 12, 31, 12, tzinfo=UTC), UTC) is None
