"""What docs/schedules-as-files.md shows is what the command says."""

import re
from pathlib import Path

from quarterjack.cli.wanted import FIELDS
from tests.cli.conftest import Command

PAGE = Path("docs/schedules-as-files.md").read_text()
FILE = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
DRY_RUN = re.findall(r"--dry-run\n(.*?)```", PAGE, re.DOTALL)[0]
PROBLEMS = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[0]


async def test_the_plan_of_the_example(command: Command) -> None:
    ran = await command.apply(FILE, "--dry-run", name="schedules.yaml")

    assert (ran.code, ran.out) == (2, DRY_RUN)


async def test_the_problems_of_the_example(command: Command) -> None:
    spoiled = FILE.replace("30 2 * * *", "30 25 * * *").replace("timeout:", "timeuot:")

    ran = await command.apply(spoiled, name="schedules.yaml")

    assert (ran.code, ran.err) == (1, PROBLEMS)


def test_each_field_is_listed() -> None:
    table = PAGE.split("## A file")[1].split("Lengths of time")[0]

    assert [name for name in FIELDS if f"`{name}`" not in table] == []
