"""Each line that docs/correctness.md calls necessary is removed, and the test that it names must notice."""

import importlib
import inspect
import re
import textwrap
from typing import Any

import asyncpg
import pytest

from tests.conftest import TestDatabase
from tests.formal.page import code, rows

NOTICED = (AssertionError, TimeoutError, pytest.fail.Exception, asyncpg.UniqueViolationError)
MUTANTS = [[code(cell) if "`" in cell else "" for cell in cells] for cells in rows("Mutants")]


@pytest.mark.parametrize(
    ("function", "line", "becomes", "test"), MUTANTS, ids=[f"{m[0]}: {m[1]}" for m in MUTANTS]
)
async def test_a_mutant_is_caught(
    function: str,
    line: str,
    becomes: str,
    test: str,
    database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if function == "qj_ticks":
        await database.pool.execute(becomes)
    else:
        replace_in(function, line, becomes, monkeypatch)

    with pytest.raises(NOTICED):
        await run(test, {"database": database, "monkeypatch": monkeypatch})


def replace_in(function: str, line: str, becomes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a function with one piece of its source replaced in its own place."""
    path, name = function.rsplit(".", 1)
    owner: Any = importlib.import_module(path) if path.islower() else _class(path)
    original = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(line) == 1, f"{function} has {source.count(line)} of {line!r}"
    made: dict[str, Any] = {}
    exec(source.replace(line, becomes), original.__globals__, made)  # noqa: S102 - our own source
    monkeypatch.setattr(owner, name, made[name])


def _class(path: str) -> Any:
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


async def run(test: str, fixtures: dict[str, Any]) -> None:
    """Run one test of another file, `file.py::name` or `file.py::name[parameter]`."""
    found = re.fullmatch(r"(tests/.+)\.py::(\w+)(?:\[(\w+)\])?", test)
    assert found is not None, test
    file, name, parameter = found.groups()
    body = getattr(importlib.import_module(file.replace("/", ".")), name)
    wanted = inspect.signature(body).parameters
    await body(**{each: fixtures.get(each, parameter) for each in wanted})
