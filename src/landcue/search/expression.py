"""Label expressions: ``water and not ships``, ``(trees or grass) and not "bare soil"``.

Precedence from low to high: ``,`` (and), ``or``, ``and``, ``not``, parentheses. Adjacent words are
one name, ``bare soil``; quotes make any text a name, ``"and"``, and a quote inside is doubled. The
words and, or, not are case-insensitive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from landcue.errors import UsageError

T = TypeVar("T")
Word = Literal["and", "or"]

MAX_DEPTH = 50
MAX_LENGTH = 10_000

_TOKEN = re.compile(r"""\s*(?:([(),])|"((?:[^"]|"")*)"|'((?:[^']|'')*)'|([^\s(),"'][^\s(),]*))""")
_OPERATORS = ("and", "or", "not")
Kind = Literal["mark", "name", "word"]


@dataclass(frozen=True, slots=True)
class Label:
    """True for records that carry the label."""

    name: str

    def __str__(self) -> str:
        plain = re.fullmatch(r"""[^\s(),"'][^\s(),]*""", self.name)
        if plain and self.name.lower() not in _OPERATORS:
            return self.name
        quoted = self.name.replace('"', '""')
        return f'"{quoted}"'


@dataclass(frozen=True, slots=True)
class Not:
    """True where its part is false."""

    part: Expression

    def __str__(self) -> str:
        return f"not {_inner(self.part)}"


@dataclass(frozen=True, slots=True)
class Joined:
    """True where all parts are (``and``), or any part is (``or``)."""

    word: Word
    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return f" {self.word} ".join(_inner(part) for part in self.parts)


Expression = Label | Not | Joined


def parse(text: str) -> Expression:
    """Parse an expression."""
    if len(text) > MAX_LENGTH:
        raise UsageError(f"the label expression has {len(text)} characters: use {MAX_LENGTH:,}")
    parser = _Parser(text)
    found = parser.whole()
    if found is None:
        raise UsageError(f"the label expression {text!r} names no label: write 'water and ships'")
    return found


def evaluate(
    expression: Expression,
    having: Callable[[str], T],
    negated: Callable[[T], T],
    joined: Callable[[Word, Sequence[T]], T],
) -> T:
    """Evaluate an expression.

    Args:
        expression: Result of :func:`parse`.
        having: Returns the value of a label name.
        negated: Returns the negation of a value.
        joined: Combines values by ``and`` or ``or``.
    """
    if isinstance(expression, Label):
        return having(expression.name)
    parts = expression.parts if isinstance(expression, Joined) else (expression.part,)
    found = [evaluate(part, having, negated, joined) for part in parts]
    return joined(expression.word, found) if isinstance(expression, Joined) else negated(found[0])


def _inner(part: Expression) -> str:
    return f"({part})" if isinstance(part, Joined) else str(part)


class _Parser:
    """Recursive descent over the tokens (kind, text, place)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._next = 0
        self._depth = 0

    def _split(self) -> Iterator[tuple[Kind, str, int]]:
        place, end = 0, len(self._text.rstrip())
        while place < end:
            found = _TOKEN.match(self._text, place)
            if found is None:
                raise self._error("a quote is not closed", place)
            place = found.end()
            mark, double, single, word = found.groups()
            start = found.start(found.lastindex or 0)
            if mark is not None:
                yield "mark", mark, start
            elif word is not None:
                yield "word", word, start
            else:
                quoted = single.replace("''", "'") if double is None else double.replace('""', '"')
                yield "name", quoted, start

    def whole(self) -> Expression | None:
        parts: list[Expression] = []
        while self._next < len(self._tokens):
            if self._take("mark", ","):
                continue
            parts.append(self._or())
            if self._next < len(self._tokens) and not self._take("mark", ","):
                self._expected("'and', 'or', or the end")
        return _join("and", parts) if parts else None

    def _or(self) -> Expression:
        parts = [self._and()]
        while self._take("word", "or"):
            parts.append(self._and())
        return _join("or", parts)

    def _and(self) -> Expression:
        parts = [self._not()]
        while self._take("word", "and"):
            parts.append(self._not())
        return _join("and", parts)

    def _not(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UsageError(f"the label expression is nested deeper than {MAX_DEPTH}: simplify it")
        found = Not(self._not()) if self._take("word", "not") else self._atom()
        self._depth -= 1
        return found

    def _atom(self) -> Expression:
        if self._take("mark", "("):
            found = self._or()
            if not self._take("mark", ")"):
                self._expected("')'")
            return found
        kind, text, _ = self._peek()
        if kind == "name":
            self._next += 1
            if not text.strip():
                raise self._error("a label name is empty", self._tokens[self._next - 1][2])
            return Label(text)
        words: list[str] = []
        while self._peek()[0] == "word" and self._peek()[1].lower() not in _OPERATORS:
            words.append(self._peek()[1])
            self._next += 1
        if not words:
            self._expected("a label name")
        return Label(" ".join(words))

    def _peek(self) -> tuple[Kind, str, int]:
        if self._next < len(self._tokens):
            return self._tokens[self._next]
        return "mark", "", len(self._text)

    def _take(self, kind: Kind, text: str) -> bool:
        found = self._peek()
        if found[0] != kind or found[1].lower() != text:
            return False
        self._next += 1
        return True

    def _expected(self, what: str) -> None:
        _, text, place = self._peek()
        raise self._error(f"expected {what}, found {repr(text) if text else 'the end'}", place)

    def _error(self, what: str, place: int) -> UsageError:
        return UsageError(
            f"label expression {self._text!r}, character {place + 1}: {what}; "
            "write for example '(trees or grass) and not \"bare soil\"'"
        )


def _join(word: Word, parts: list[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))
