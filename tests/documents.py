"""The files that a page of the documentation shows, to be run as they stand."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\w+\.(?:py|toml))\n")


def blocks(page: str, *languages: str) -> list[str]:
    """Give the page's blocks in these languages, in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [code for language, code in BLOCK.findall(text) if language in languages]


def write_files(page: str, directory: Path) -> list[str]:
    """Write each block that begins with the name of a file, as `# name.py`; the names."""
    named = [
        (found[1], code) for code in blocks(page, "python", "toml") if (found := NAMED.match(code))
    ]
    for name, code in named:
        (directory / name).write_text(code, encoding="utf-8")
    return [name for name, _ in named]
