"""Spin visits every state of formal/ticks.pml, and finds what docs/correctness.md says: no more, no less."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.formal.page import ROOT, code, rows

MODEL = ROOT / "formal" / "ticks.pml"
COMPILE = ["gcc", "-O1", "-DSAFETY", "-DMEMLIM=2000", "-o", "pan", "pan.c"]
GO_ON_AFTER_A_VIOLATION = "-c0"
INCOMPLETE = ("Search not completed", "max search depth too small", "hit the bound")
SECONDS = 100
CASES = [
    (code(options), set(re.findall(r"`(\w+)`", found)))
    for _, options, found, _ in rows("What spin finds")
]


def run(*command: str, within: Path) -> str:
    done = subprocess.run(command, cwd=within, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(("options", "expected"), CASES, ids=[options for options, _ in CASES])
def test_spin_finds_what_the_page_says(options: str, expected: set[str], tmp_path: Path) -> None:
    missing = [tool for tool in ("spin", "gcc") if not shutil.which(tool)]
    assert not missing, f"{missing} missing: apt-get install spin gcc libc6-dev"
    run("spin", "-a", *options.split(), str(MODEL), within=tmp_path)
    run(*COMPILE, within=tmp_path)

    said = run("./pan", GO_ON_AFTER_A_VIOLATION, "-m10000", "-w22", within=tmp_path)

    assert set(re.findall(r"assertion violated\s+!\((\w+)\)", said)) == expected
    assert "Full statespace search" in said
    assert not [words for words in INCOMPLETE if words in said]
    assert "pan:1: invalid end state" not in said


@pytest.mark.parametrize("name", ["FENCE", "VERSION", "CAS", "EARLY", "UNIQUE", "AFTER"])
def test_the_page_removes_each_mechanism_with_and_without_a_failover(name: str) -> None:
    assert f"#define {name} 1" in MODEL.read_text(encoding="utf-8")

    removed = [options for options, _ in CASES if f"-D{name}=0" in options]

    assert {"FAILOVERS" in options for options in removed} == {True, False}


def test_the_whole_mechanism_holds_with_and_without_a_failover() -> None:
    whole = [options for options, found in CASES if not found and "=0" not in options]

    assert {"FAILOVERS" in options for options in whole} == {True, False}
