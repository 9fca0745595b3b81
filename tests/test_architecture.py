"""Rules of the layout that no linter knows."""

import ast
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from packaging.requirements import Requirement

from quarterjack import migrate
from tests.conftest import TestDatabase

ROOT = Path(__file__).parents[1]
SERVICES = ("quarterjack_scheduler", "quarterjack_worker", "quarterjack_admin")
MEMBERS = sorted(path.parent for path in ROOT.glob("*/pyproject.toml")) + sorted(
    path.parent for path in ROOT.glob("services/*/pyproject.toml")
)
OURS = [
    path
    for top in ("shared", "services", "local")
    for path in sorted((ROOT / top).rglob("*"))
    if path.is_file() and not {"vendor", "__pycache__", "migrations"} & set(path.parts)
]
SOURCES = [path for path in OURS if path.suffix == ".py"]
STATEMENT = re.compile(
    r"""\b(
      SELECT\s.+\sFROM\s | SELECT\s+\w+\s*\( | SELECT\s+\d | INSERT\s+INTO\s | UPDATE\s+\w+\s+SET\s | DELETE\s+FROM\s
      | (CREATE|ALTER|DROP)\s+(TABLE|INDEX|DATABASE|SCHEMA|FUNCTION|TRIGGER|ROLE|TYPE|(MATERIALIZED\s+)?VIEW)\s
      | TRUNCATE\s+\w | REFRESH\s+MATERIALIZED\s | (UN)?LISTEN\s+["\w] | NOTIFY\s+["\w] | pg_\w+\s*\(
    )""",
    re.VERBOSE | re.DOTALL,
)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def literals(module: ast.Module) -> Iterator[str]:
    """Every string of the module but the docstrings."""
    prose = {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def manifest(member: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((member / "pyproject.toml").read_text())["project"]
    return project


def required(distribution: str) -> set[str]:
    """What installing the distribution brings, itself included."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
    return found


def test_no_service_imports_another() -> None:
    wrong = [
        f"{shown(path)} imports {name}"
        for path in SOURCES
        for own in SERVICES
        if own in path.parts
        for name in imported(tree(path))
        if name.split(".")[0] in {*SERVICES, "quarterjack_local"} - {own}
    ]

    assert not wrong


def test_statements_are_only_in_queries() -> None:
    wrong = [
        f"{shown(path)}: {text.strip()[:80]}"
        for path in SOURCES
        if "queries" not in path.parts
        for text in literals(tree(path))
        if STATEMENT.search(text)
    ]

    assert not wrong


def test_files_stay_under_300_lines() -> None:
    wrong = {
        shown(path): lines
        for path in [*OURS, ROOT / "dev"]
        if path.name == "dev" or path.suffix in (".py", ".js", ".css", ".html")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= 300
    }

    assert not wrong


def test_members_agree_on_the_version() -> None:
    projects = [manifest(member) for member in (ROOT, *MEMBERS)]
    versions = {project["version"] for project in projects}

    assert len(MEMBERS) == 5
    assert len(versions) == 1
    pins = {
        line
        for project in projects
        for line in project.get("dependencies", ())
        if line.startswith("quarterjack")
    }
    assert {line.split("==")[1] for line in pins} == versions


def test_the_lock_has_hashes_and_no_addresses() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = [line for line in text.replace("\\\n", "").splitlines() if line[:1].isalnum()]

    assert "://" not in text
    assert len(entries) > 20
    assert [line for line in entries if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("name", ["quarterjack", "quarterjack-scheduler", "quarterjack-worker"])
def test_only_the_admin_brings_a_web_server(name: str) -> None:
    assert not required(name) & {"aiohttp", "aiohttp-jinja2", "jinja2", "argon2-cffi"}


@pytest.mark.parametrize("name", ["quarterjack-admin", "quarterjack-scheduler"])
def test_only_the_worker_brings_job_code(name: str) -> None:
    others = {f"quarterjack-{role}" for role in ("admin", "scheduler", "worker", "local")} - {name}

    assert not required(name) & others


def test_migrations_are_numbered_without_gaps() -> None:
    for directory in (ROOT / "migrations", ROOT / "migrations" / "telemetry"):
        names = sorted(path.name for path in directory.glob("*.sql"))

        assert [name[:5] for name in names] == [f"{n:04}_" for n in range(1, len(names) + 1)]


async def test_migrations_without_a_transaction_can_run_again(database: TestDatabase) -> None:
    again = [m for m in migrate.shipped() if m.script.startswith(migrate.NO_TRANSACTION)]
    connection = await asyncpg.connect(database.url)

    for migration in again:
        for statement in filter(str.strip, migration.script.split(";\n")):
            await connection.execute(statement)

    await connection.close()
    assert again
