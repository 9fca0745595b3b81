"""Every statement of quarterjack/queries is prepared against the migrated schema."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg

import quarterjack.queries
from quarterjack.database import Pool
from tests.conftest import TestDatabase

CALLS = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}
UTILITY = ("CREATE ", "LISTEN", "REFRESH ", "SET ", "DROP ", "REINDEX ")


def statements() -> Iterator[tuple[str, str]]:
    directory = Path(quarterjack.queries.__path__[0])
    for file in sorted(directory.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in CALLS or not node.args:
                continue
            text = _text(node.args[0], constants)
            if text is not None and not text.strip().startswith(UTILITY):
                yield f"{file.stem}:{node.lineno}", text


def _text(node: ast.expr, constants: Mapping[str, object]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name) and isinstance(constants.get(node.id), str):
        return str(constants[node.id])
    return None


FOUND = dict(statements())


async def refused(pool: Pool) -> dict[str, str]:
    """Give what Postgres says of those that do not fit this database."""
    said = {}
    async with pool.acquire() as connection:
        for where, statement in FOUND.items():
            try:
                await connection.prepare(statement)
            except asyncpg.PostgresError as error:
                said[where] = str(error)
    return said


async def test_each_fits_the_schema(database: TestDatabase) -> None:
    assert await refused(database.pool) == {}


def test_the_statements_are_found() -> None:
    assert len(FOUND) > 10
