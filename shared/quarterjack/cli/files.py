"""Read a file as text: bounded, UTF-8, with errors that say what to do."""

import sys
from pathlib import Path

from quarterjack.cli.problems import FileInvalid, Problem

LARGEST = 5_000_000
STDIN = "-"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: str) -> str:
    """Give the text of a file, or of standard input for `-`; FileInvalid says why not."""
    name = shown(path)
    try:
        content = _content(path)
    except OSError as error:
        raise FileInvalid(
            name, [Problem(line=0, text=f"cannot be read: {error.strerror}")]
        ) from error
    if len(content) > LARGEST:
        said = f"has more than {LARGEST // 1_000_000} MB: split it into several files"
        raise FileInvalid(name, [Problem(line=0, text=said)])
    if content.startswith(UTF_16):
        raise FileInvalid(name, [Problem(line=0, text="is UTF-16: save it as UTF-8")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        said = f"the byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise FileInvalid(name, [Problem(line=line, text=said)]) from error
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise FileInvalid(name, [Problem(line=line, text="a NUL character: is this a text file?")])
    return text


def shown(path: str) -> str:
    """Give the name of a file for messages."""
    return "standard input" if path == STDIN else path


def _content(path: str) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read(LARGEST + 1)
    with Path(path).open("rb") as file:
        return file.read(LARGEST + 1)
