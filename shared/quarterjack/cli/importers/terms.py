"""Terms of Elixir as far as configuration uses them; anything else is read over and stands as `Code`."""

import re
from dataclasses import dataclass
from typing import Any

DEEPEST = 50
TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]+|\#[^\n]*)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<sigil>~[a-zA-Z](?:
        \((?:[^)\\]|\\.)*\) | \[(?:[^\]\\]|\\.)*\] | \{(?:[^}\\]|\\.)*\} | /(?:[^/\\]|\\.)*/ | "(?:[^"\\]|\\.)*"
        | \|(?:[^|\\]|\\.)*\|
      )[a-z]*)
    | (?P<key>[a-z_][A-Za-z0-9_]*[?!]?:(?!:)|"(?:[^"\\]|\\.)*":(?=\s))
    | (?P<atom>:[A-Za-z_][A-Za-z0-9_@]*[?!]?|:"(?:[^"\\]|\\.)*")
    | (?P<number>-?[0-9][0-9_]*(?:\.[0-9]+)?)
    | (?P<module>[A-Z][A-Za-z0-9_]*(?:\.[A-Z][A-Za-z0-9_]*)*)
    | (?P<word>[a-z_][A-Za-z0-9_]*[?!]?)
    | (?P<arrow>=>)
    | (?P<open>%\{|\[|\{|\()
    | (?P<close>\]|\}|\))
    | (?P<comma>,)
    | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "s": " ", "e": "\x1b", "0": "\x00"}
WORDS: dict[str, Any] = {"true": True, "false": False, "nil": None}
ENDS = {"[": "]", "{": "}", "%{": "}", "(": ")"}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text and where it is."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Name:
    """An atom or a module."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Something that only Elixir can evaluate."""

    text: str


@dataclass(frozen=True, slots=True)
class Tuple:
    """A tuple, with the line that it begins on."""

    line: int
    items: tuple[Any, ...]


class TermInvalid(ValueError):
    """The text ends too early or is nested too deeply; `line` says where."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def tokens(text: str) -> list[Token]:
    """Give the tokens of a text without blanks and comments."""
    found, line = [], 1
    for match in TOKEN.finditer(text):
        if match.lastgroup != "blank":
            found.append(Token(match.lastgroup or "other", match[0], line))
        line += match[0].count("\n")
    return found


class Reader:
    """Reads terms from a place in the tokens on."""

    def __init__(self, found: list[Token], place: int = 0) -> None:
        self._tokens = found
        self.place = place

    def value(self, depth: int = 0) -> Any:
        """Give the term at the place, up to the comma or bracket after it."""
        if depth > DEEPEST:
            raise TermInvalid(self._line(), f"nested deeper than {DEEPEST} levels")
        begin = self.place
        term = self._term(depth)
        if self._ends():
            return term
        while not self._ends():
            self._step_over(depth)
        return Code(" ".join(token.text for token in self._tokens[begin : self.place])[:200])

    def first(self) -> tuple[Any, bool]:
        """Give the term at the place, and whether more is done to it, as in `[...] ++ more`."""
        term = self._term(0)
        return term, not self._ends()

    def items(self, end: str, depth: int) -> tuple[list[Any], dict[str, Any]]:
        """Give what stands before the bracket `end`: terms, and pairs with keys."""
        listed: list[Any] = []
        named: dict[str, Any] = {}
        while True:
            token = self._next()
            if token.kind == "close":
                if token.text != end:
                    raise TermInvalid(token.line, f"{token.text} where {end} is missing")
                return listed, named
            if token.kind == "comma":
                continue
            if token.kind == "key":
                named[_key(token.text)] = self.value(depth + 1)
                continue
            self.place -= 1
            term = self._term(depth + 1) if self._arrow_follows() else self.value(depth + 1)
            if self._peek() and self._tokens[self.place].kind == "arrow":
                self.place += 1
                named[_said(term)] = self.value(depth + 1)
            else:
                listed.append(term)

    def _arrow_follows(self) -> bool:
        after = self.place + 1
        return after < len(self._tokens) and self._tokens[after].kind == "arrow"

    def _term(self, depth: int) -> Any:
        token = self._next()
        if token.kind == "open":
            listed, named = self.items(ENDS[token.text], depth)
            if token.text == "{":
                return Tuple(token.line, (*listed, named) if named else tuple(listed))
            if token.text == "[":
                return named if named and not listed else [*listed, *([named] if named else [])]
            return named if token.text == "%{" and not listed else Code(token.text)
        if token.kind == "number":
            plain = token.text.replace("_", "")
            return float(plain) if "." in plain else int(plain[:300])
        return _simple(token)

    def _step_over(self, depth: int) -> None:
        token = self._next()
        if token.kind == "open":
            self.items(ENDS[token.text], depth + 1)

    def _ends(self) -> bool:
        return not self._peek() or self._tokens[self.place].kind in ("comma", "close", "arrow")

    def _peek(self) -> bool:
        return self.place < len(self._tokens)

    def _next(self) -> Token:
        if not self._peek():
            raise TermInvalid(self._line(), "the text ends in the middle of a list")
        token = self._tokens[self.place]
        self.place += 1
        return token

    def _line(self) -> int:
        return self._tokens[-1].line if self._tokens else 1


def _simple(token: Token) -> Any:
    if token.kind == "text":
        return Code(token.text) if "#{" in token.text else _unescaped(token.text[1:-1])
    if token.kind == "sigil":
        inner = re.sub(r"[a-z]*$", "", token.text[3:])[:-1]
        if token.text[1] in "wW":
            return inner.split()
        return inner if token.text[1] in "sS" and "#{" not in inner else Code(token.text)
    if token.kind == "atom":
        plain = token.text[1:]
        return Name(_unescaped(plain[1:-1]) if plain.startswith('"') else plain)
    if token.kind == "module":
        return Name(token.text)
    return WORDS[token.text] if token.text in WORDS else Code(token.text)


def _key(text: str) -> str:
    plain = text[:-1]
    return _unescaped(plain[1:-1]) if plain.startswith('"') else plain


def _said(term: Any) -> str:
    return term.text if isinstance(term, Name | Code) else str(term)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)


def plain(term: Any) -> Any:
    """Give a term as JSON would hold it; ValueError if Elixir has to evaluate something in it."""
    if isinstance(term, Name):
        return term.text
    if isinstance(term, dict):
        return {key: plain(value) for key, value in term.items()}
    if isinstance(term, list):
        return [plain(each) for each in term]
    if isinstance(term, Code | Tuple):
        shown = term.text if isinstance(term, Code) else "a tuple"
        raise ValueError(f"{shown!r:.80} is not a value that JSON holds")
    return term
