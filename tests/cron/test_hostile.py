"""Any text at all is read or refused, in no time and no space."""

import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quarterjack import cron

MOST_SECONDS, MOST_BYTES = 0.005, 1_000_000
NEARLY = st.text(alphabet="0123456789*/-,#LHhRW?@() \tsunmoevrydjaf", max_size=80)
LONG = st.builds(
    lambda part, times: part * (times // max(1, len(part))),
    st.text(min_size=1, max_size=20),
    st.integers(1, 1_000_000),
)


@settings(max_examples=600)
@given(st.one_of(st.text(), NEARLY, LONG), st.none() | st.text(max_size=20))
@example("1," * 500_000, None)
@example(" " * 999_990 + "every 5m", None)
@example("every " * 40, None)
@example("every " + "9h" * 120, None)
@example("*/" + "0" * 200 + " * * * *", None)
@example("0-59," * 40 + "1 * * * *", None)
@example("\ud800 * * * *", None)
@example("H * * * *", "\ud800")
@example("0 0 30,31 2 *", None)
@example("0" * 5_000 + " * * * *", None)
def test_any_text_is_read_or_refused(text: str, seed: str | None) -> None:
    _warm_up()
    began = time.thread_time()
    refused = _refused(text, seed)
    took = time.thread_time() - began
    tracemalloc.start()
    _refused(text, seed)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert took < MOST_SECONDS
    assert most < MOST_BYTES
    if refused is not None:
        assert 10 < len(str(refused)) < 250
        assert refused.field in {"cron", "second", "minute", "hour", "day", "month", "weekday"}


def _refused(text: str, seed: str | None) -> cron.CronError | None:
    try:
        cron.read(text, seed).describe()
    except cron.CronError as error:
        return error
    return None


def _warm_up() -> None:
    cron.read("0 0 * * *", "name")


@pytest.mark.parametrize("value", [None, 5, b"* * * * *", 1.5])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(cron.CronError, match="five fields"):
        cron.parse(value)  # type: ignore[arg-type] # that is the point


@settings(max_examples=200)
@given(st.text() | LONG)
def test_any_other_zone_is_refused(name: str) -> None:
    with pytest.raises(cron.CronError) as refused:
        cron.zone(f"{name}?")

    assert refused.value.field == "timezone"
    assert len(str(refused.value)) < 500
