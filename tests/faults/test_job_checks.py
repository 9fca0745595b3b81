"""Each check of executions fails on what it looks for."""

import pytest

from tests.job_checks import Execution, check_effects, check_executions

FIRST = Execution(1, "a", 10.0, 11.0, "done")
DIED = Execution(1, "a", 10.0, None, None)
AGAIN = Execution(1, "b", 12.0, 13.0, "done")
OTHER = Execution(2, "b", 10.5, 13.0, "done")


@pytest.mark.parametrize(
    ("executions", "deaths"),
    [
        ([FIRST, OTHER], {}),
        ([Execution(1, "a", 10.0, 11.0, "failed"), AGAIN], {}),
        ([Execution(1, "a", 10.0, 11.0, "stopped"), AGAIN], {}),
        ([DIED, AGAIN], {"a": 11.5}),
        ([FIRST, AGAIN], {"a": 11.5}),
        ([FIRST, AGAIN], {"b": 11.5}),
    ],
    ids=["once", "failed", "given back", "killed", "stopped and condemned", "caught"],
)
def test_good_executions_pass(executions: list[Execution], deaths: dict[str, float]) -> None:
    check_executions(executions, deaths)


@pytest.mark.parametrize(
    "deaths", [{}, {"a": 12.5}, {"b": 11.5}], ids=["nobody", "late", "another"]
)
@pytest.mark.parametrize("first", [DIED, Execution(1, "a", 10.0, 12.1, "done")])
def test_c6_sees_two_at_once(first: Execution, deaths: dict[str, float]) -> None:
    with pytest.raises(AssertionError, match="two run at once"):
        check_executions([AGAIN, first], deaths)


def test_c7_sees_what_was_done_and_run_again() -> None:
    with pytest.raises(AssertionError, match="done, and run again"):
        check_executions([FIRST, AGAIN], {})


def test_a_worker_that_was_declared_dead_is_caught_with_one_job_at_most() -> None:
    others = [Execution(2, "a", 10.0, 11.0, "done"), Execution(2, "b", 12.1, 13.0, "done")]

    with pytest.raises(AssertionError, match="done, and run again"):
        check_executions([FIRST, AGAIN, *others], {"b": 11.5})


def test_c9_sees_rows_too_many_and_too_few() -> None:
    check_effects([1, 2], {2, 1})
    for rows in ([1, 2, 2], [1, 2, 3]):
        with pytest.raises(AssertionError, match="rows doubled"):
            check_effects(rows, {1, 2})
    with pytest.raises(AssertionError, match="without their row"):
        check_effects([1], {1, 2})
