"""The command and what it costs those who do not use it."""

import subprocess
import sys

import pytest

WITHOUT = """
import sys
sys.modules["yaml"] = None
import quarterjack.cli
sys.argv = ["quarterjack", "schedules", "export"]
quarterjack.cli.main()
"""


def test_a_missing_extra_is_said_in_one_line() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)

    assert ran.returncode == 1
    assert ran.stderr == "quarterjack: yaml is missing: pip install 'quarterjack[cli]'\n"


@pytest.mark.parametrize("module", ["quarterjack_scheduler.service", "quarterjack_worker.service"])
def test_a_service_brings_neither_yaml_nor_jsonschema(module: str) -> None:
    program = f"import sys, {module}; print(sorted({{'yaml', 'jsonschema'}} & set(sys.modules)))"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert ran.stdout == "[]\n", ran.stderr
