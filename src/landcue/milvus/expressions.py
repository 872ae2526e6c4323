"""Boolean expressions of Milvus, with quoting that prevents injection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from landcue.errors import UsageError
from landcue.search.expression import Word

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ./-:+,=@")


def quoted(text: str) -> str:
    """Return a string literal: every character but letters, digits and a few marks is escaped.

    Raises:
        UsageError: The text is no Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is not valid Unicode") from None
    return '"' + "".join(c if c in _PLAIN else _escaped(ord(c)) for c in text) + '"'


def _escaped(point: int) -> str:
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def one_of(field: str, values: Iterable[str]) -> str:
    """Return an expression that a field equals one of the strings."""
    return f"{field} in [{', '.join(map(quoted, values))}]"


def starts(field: str, prefix: str) -> str:
    """Return an expression that a field starts with a prefix; ``%`` and ``_`` are literal."""
    after = _after(prefix)
    least = f"{field} >= {quoted(prefix)}"
    return least if after is None else f"{least} and {field} < {quoted(after)}"


def _after(prefix: str) -> str | None:
    """Return the least string greater than all with this prefix; ``None`` if there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    point = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if 0xD800 <= point <= 0xDFFF else point)


def both(*parts: str) -> str:
    """Return an expression that all parts hold; empty parts are ignored."""
    said = [part for part in parts if part]
    return said[0] if len(said) == 1 else joined("and", said)


def joined(word: Word, parts: Sequence[str]) -> str:
    """Return an expression that all parts hold, or any of them."""
    return f" {word} ".join(f"({part})" for part in parts)


def carries(number: int) -> str:
    """Return an expression that a record has the label with this number."""
    return f"array_contains(labels, {int(number)})"
