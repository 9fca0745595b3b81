"""What is written of a failure says what failed, however it is wrapped."""

import pytest

from quarterjack_worker.handlers.failures import describe
from tests.worker.test_stubborn import Unreadable


def nested(depth: int) -> ExceptionGroup[Exception]:
    group = ExceptionGroup[Exception]("innermost", [ValueError("too deep")])
    for _ in range(depth):
        group = ExceptionGroup[Exception]("around", [group])
    return group


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (
            ExceptionGroup("all", [ExceptionGroup("two", [ValueError("a\nb"), Unreadable()])]),
            "ExceptionGroup: all (1 sub-exception); ValueError: a; "
            "Unreadable: (its message could not be read)",
        ),
        (
            ExceptionGroup("many", [ValueError(str(n)) for n in range(9)]),
            "ExceptionGroup: many (9 sub-exceptions); ValueError: 0; ValueError: 1; ValueError: 2",
        ),
        (nested(5_000), "ExceptionGroup: around (1 sub-exception); ValueError: too deep"),
    ],
)
def test_the_first_line_names_what_failed(error: Exception, said: str) -> None:
    assert describe(error).partition("\n")[0] == said
