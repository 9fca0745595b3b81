"""Holidays out of iCalendar texts; the yearly rules against dateutil's."""

import time
from datetime import date, datetime

import pytest
from dateutil.rrule import rrulestr  # type: ignore[import-untyped] # it has no types
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterjack.cron import CronError
from quarterjack.cron.ical import read_holidays
from quarterjack.cron.yearly import parse_rule

YEARS = range(2026, 2031)


def calendar(*lines: str) -> str:
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *lines, "END:VCALENDAR", ""])


def event(*lines: str) -> str:
    return calendar("BEGIN:VEVENT", *lines, "END:VEVENT")


def read(text: str) -> dict[date, str]:
    return dict(read_holidays(text, name="test", years=YEARS).days)


def test_a_calendar_as_others_publish_it_is_read() -> None:
    text = calendar(
        "PRODID:-//Somebody//Holidays//EN",
        "X-WR-CALNAME:Holidays",
        "BEGIN:VTIMEZONE",
        "TZID:Europe/Prague",
        "BEGIN:STANDARD",
        "DTSTART:19961027T030000",
        "RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10",
        "END:STANDARD",
        "END:VTIMEZONE",
        "BEGIN:VEVENT",
        "DTSTART;VALUE=DATE:20261224",
        "DTEND;VALUE=DATE:20261227",
        'SUMMARY;LANGUAGE="en:x":Christmas\\, with',
        "  a folded\\nline",
        "TRANSP:TRANSPARENT",
        "BEGIN:VALARM",
        "TRIGGER:-PT15M",
        "DURATION:PT15M",
        "END:VALARM",
        "END:VEVENT",
        "BEGIN:VEVENT",
        "DTSTART;TZID=Europe/Prague:20270101T000000",
        "DTEND;TZID=Europe/Prague:20270102T000000",
        "END:VEVENT",
        "BEGIN:VEVENT",
        "DTSTART;VALUE=DATE:20270101",
        "STATUS:CANCELLED",
        "END:VEVENT",
    )

    assert read(text) == {
        date(2026, 12, 24): "Christmas, with a folded line",
        date(2026, 12, 25): "Christmas, with a folded line",
        date(2026, 12, 26): "Christmas, with a folded line",
        date(2027, 1, 1): "",
    }
    assert read("\ufeff" + text.replace("\r\n", "\n")) == read(text)


def test_two_events_on_one_day_give_both_names() -> None:
    both = calendar(
        *("BEGIN:VEVENT", "DTSTART:20261224", "SUMMARY:One", "END:VEVENT"),
        *("BEGIN:VEVENT", "DTSTART:20261224", "SUMMARY:Two", "END:VEVENT"),
    )

    assert read(both) == {date(2026, 12, 24): "One, Two"}


@pytest.mark.parametrize(
    ("lines", "days"),
    [
        (["DTSTART:20261224"], ["1224"]),
        (["DTSTART:20261224", "DURATION:P2D"], ["1224", "1225"]),
        (["DTSTART:20261224T120000Z"], ["1224"]),
        (["DTSTART:20261224T220000", "DTEND:20261225T060000"], ["1224", "1225"]),
        (["DTSTART:20261224", "DTEND:20261224"], ["1224"]),
    ],
)
def test_an_event_lasts_until_its_end(lines: list[str], days: list[str]) -> None:
    assert [f"{day:%m%d}" for day in read(event(*lines))] == days


def test_a_yearly_holiday_comes_in_every_year_asked_for() -> None:
    thanksgiving = event("DTSTART:19701126", "RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH")

    assert list(read(thanksgiving)) == [
        date(2026, 11, 26),
        date(2027, 11, 25),
        date(2028, 11, 23),
        date(2029, 11, 22),
        date(2030, 11, 28),
    ]


NUMBERS = st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True)
MONTH_DAYS = st.lists(st.sampled_from([1, 13, 28, 29, 30, 31, -1, -31]), min_size=1, unique=True)
NTHS = st.lists(
    st.sampled_from(["1MO", "+2TU", "5SU", "-1FR", "-5WE", "4TH"]), min_size=1, unique=True
)


@settings(max_examples=300)
@given(
    st.dates(date(1970, 1, 1), date(2020, 12, 31)),
    st.none() | NUMBERS,
    st.none() | MONTH_DAYS | NTHS,
    st.sampled_from(
        ["", ";INTERVAL=4", ";COUNT=7", ";UNTIL=20091231", ";INTERVAL=3;COUNT=5", ";WKST=SU"]
    ),
)
def test_a_rule_gives_the_days_that_dateutil_gives(
    start: date, months: list[int] | None, days: list[int] | list[str] | None, more: str
) -> None:
    text = f"FREQ=YEARLY{more}"
    if months:
        text += f";BYMONTH={','.join(map(str, months))}"
        if days:
            kind = "BYDAY" if isinstance(days[0], str) else "BYMONTHDAY"
            text += f";{kind}={','.join(map(str, days))}"
    midnight = datetime(start.year, start.month, start.day)  # noqa: DTZ001 - a wall time
    end = datetime(2040, 12, 31)  # noqa: DTZ001 - a wall time

    expected = [
        day.date() for day in rrulestr(text, dtstart=midnight).between(midnight, end, inc=True)
    ]

    assert list(parse_rule(text).days(start, 2040)) == expected


@pytest.mark.parametrize(
    ("text", "line", "advice"),
    [
        ("", 1, "BEGIN:VCALENDAR"),
        ("hello", 1, "no line of a calendar"),
        ("BEGIN:VEVENT", 1, "BEGIN:VCALENDAR"),
        ("END:VCALENDAR", 1, "BEGIN:VCALENDAR"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR", 3, "END:VEVENT is missing"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20261224", 3, "END:VCALENDAR"),
        (event("SUMMARY:x"), 3, "without a DTSTART"),
        (event("DTSTART:20261301"), 4, "such as 20261224"),
        (event("DTSTART:18001201"), 4, "1970 to 2200"),
        (event("DTSTART:20261224", "DTSTART:20261225"), 5, "not understood"),
        (event("DTSTART:20261224", "EXDATE:20261225"), 5, "not understood"),
        (event("DTSTART:20261224", "DURATION:PT5M"), 5, "such as P2D"),
        (event("DTSTART:20261224", "DTEND:20261220"), 5, "1 to 366 days"),
        (event("DTSTART:20261224", "RRULE:FREQ=SECONDLY"), 5, "only FREQ=YEARLY"),
        (event("SUMMARY:a", " b", "DTSTART:20261224", "RRULE:FREQ=MONTHLY"), 7, "only FREQ=YEARLY"),
        (event("DTSTART:20261224", "RRULE:FREQ=YEARLY;BYWEEKNO=5"), 5, "made of BYDAY"),
        (event("DTSTART:20261224", "RRULE:FREQ=YEARLY;BYMONTH=13"), 5, "1 to 12"),
        (event("DTSTART:20261224", "RRULE:FREQ=YEARLY;BYMONTH=1;BYDAY=TH"), 5, "4TH"),
        (event("DTSTART:20261224", "RRULE:FREQ=YEARLY;BYDAY=4TH"), 5, "month as well"),
        (
            event("DTSTART:20261224", "RRULE:FREQ=YEARLY;BYMONTH=1;BYDAY=4TH;BYMONTHDAY=1"),
            5,
            "either",
        ),
        (event("DTSTART:20261224", "RRULE:FREQ=YEARLY;UNTIL=20261301"), 5, "UNTIL takes"),
        (event("DTSTART:20261224", "RRULE:FREQ=YEARLY;COUNT=1,2"), 5, "one number"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(text: str, line: int, advice: str) -> None:
    with pytest.raises(CronError, match=f"^line {line}: .*{advice}") as refused:
        read(text)

    assert refused.value.field == "holidays"


RULE = "RRULE:FREQ=YEARLY;BYMONTH=1,2,3,4,5,6,7,8,9,10,11,12;"
RULE += f"BYMONTHDAY={','.join(map(str, range(1, 32)))}"


@pytest.mark.parametrize(
    "text",
    [
        calendar(
            *["BEGIN:VEVENT", "DTSTART:19700101", "DURATION:P366D", RULE, "END:VEVENT"] * 5_000
        ),
        calendar(
            *["BEGIN:VEVENT", "DTSTART:19700131", "RRULE:FREQ=YEARLY;BYMONTH=2", "END:VEVENT"]
            * 9_000
        ),
        calendar(
            *["BEGIN:VEVENT", "DTSTART:19700101", f"{RULE};UNTIL=19700101", "END:VEVENT"] * 199
        ),
        calendar("X:a", *[" a"] * 200_000),
        calendar("X" + ";A=b" * 200_000),
        calendar("X" + ';A="' * 200_000),
        calendar(*["BEGIN:VEVENT"] * 50_000),
        "\n" * 999_999,
        "x" * 1_000_001,
    ],
    ids=str.__len__,
)
def test_a_huge_calendar_is_read_or_refused_in_a_second(text: str) -> None:
    began = time.thread_time()

    try:
        read(text)
    except CronError as refused:
        assert len(str(refused)) < 300  # noqa: PT017 - some are read

    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    "years", [range(0), range(1900, 1910), range(2000, 2100), range(2190, 2210)]
)
def test_the_years_are_bounded(years: range) -> None:
    with pytest.raises(CronError, match="50 years"):
        read_holidays(calendar(), name="test", years=years)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                "BEGIN:VCALENDAR",
                "BEGIN:VEVENT",
                "END:VEVENT",
                "DTSTART:20261224",
                "RRULE:FREQ=YEARLY",
            ]
        )
        | st.text(max_size=30),
        max_size=12,
    )
)
def test_any_text_is_read_or_refused(lines: list[str]) -> None:
    for text in ("\n".join(lines), calendar(*lines), event("DTSTART:20260101", *lines)):
        try:
            read(text)
        except CronError as refused:
            assert refused.field == "holidays"  # noqa: PT017 - many are read
