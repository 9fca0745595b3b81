"""The tables of docs/correctness.md, which the tests here hold to the truth."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "correctness.md"


def rows(section: str) -> list[list[str]]:
    """Give the cells of the one table in a section, without its head."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def code(cell: str) -> str:
    """Give what stands between the backquotes of a cell."""
    return cell.split("`")[1]
