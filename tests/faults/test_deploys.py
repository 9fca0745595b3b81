"""Whole containers that freeze, and releases side by side (F5, F42)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import TestDatabase
from tests.faults.arena import Arena, arena
from tests.waiting import until

pytestmark = [pytest.mark.newest_postgres, pytest.mark.nightly, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")
FREEZERS = (
    (CGROUPS / "freezer", "freezer.state", "FROZEN", "THAWED"),
    (CGROUPS, "cgroup.freeze", "1", "0"),
)
MEMBERS = "cgroup.procs"


@pytest.mark.root
async def test_f5_a_frozen_container_costs_one_term(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """No signal tells it, before or after; when it thaws it finds that another leads."""
    async with arena(database, tmp_path, seed=seed) as field:
        leader, term = await field.leader(), await field.term()
        async with field.trouble("freeze", node=leader.name):
            with frozen(leader.service.process.pid):
                await until(lambda: _another_leads(field, term), within=10.0)
                await field.pass_time(3.0)
        await field.decides()
        assert await field.term() == term + 1
        await field.verify()


async def test_f42_releases_run_side_by_side(
    database: TestDatabase, tmp_path: Path, seed: int
) -> None:
    """A deploy that rolls, and is taken back: the release before is the one that lacks the newest migration."""
    before = {"PYTHONPATH": _unpack_release_before(tmp_path / "before")}
    async with arena(database, tmp_path, seed=seed, replicas=0) as field:
        async with field.trouble("start"):
            for number in (1, 2):
                await field.start(f"scheduler-{number}", **before)
            await field.decides()
        for number, env in enumerate(({}, {}, before, {}, before, before), start=3):
            await field.start(f"scheduler-{number}", **env)
            await field.all_started()
            await field.kill(await field.leader())
            await field.decides()
        said = "\n".join(field.said())
        await field.verify()
    assert "migrated by a newer release" in said


async def _another_leads(field: Arena, term: int) -> bool:
    return await field.term() > term and await field.leading() is not None


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process in a control group of its own."""
    for parent, state, freeze, thaw in FREEZERS:
        group = parent / f"quarterjack-{pid}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / MEMBERS).write_text(str(pid))
            (group / state).write_text(freeze)
            yield
        finally:
            (group / state).write_text(thaw)
            (parent / MEMBERS).write_text(str(pid))
            group.rmdir()
        return
    pytest.fail(f"no control group can be made under {CGROUPS}")


def _unpack_release_before(place: Path) -> str:
    """Give the import path of the newest code that lacks a migration, and has all others as they are."""
    place.mkdir()
    commits, here = (
        _git("log", "--format=%H", "--", "migrations").decode().split(),
        _shipped("HEAD"),
    )
    before = next(commit for commit in commits if _shipped(commit) < here)
    archive = _git("archive", before, "shared", "services", "migrations")
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive, check=True)
    return f"{place / 'shared'}:{place / 'services' / 'scheduler'}"


def _shipped(commit: str) -> set[bytes]:
    return set(_git("ls-tree", "-r", commit, "--", "migrations").splitlines())


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout
