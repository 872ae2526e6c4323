r"""Names of files: bytes that need not be text, shown and matched as plain text.

A stored path is a file's name, with bytes that are not UTF-8 written ``\xe9``. An id is such a path
in Unicode form NFC, in which characters that cannot be printed are escaped as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from pathlib import Path

_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")


def stored_name(path: str) -> str:
    r"""Return a path as valid text; :func:`find_stored` finds its file again.

    >>> stored_name("caf\udce9.png")
    'caf\\xe9.png'
    """
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeEncodeError):
            return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return path.encode("utf-8", "backslashreplace").decode()  # of JSON, half of a character


def find_stored(root: Path, stored: str) -> Path:
    """Return the file of a stored path; escapes are bytes unless a file has them literally."""
    path = root / stored
    if _ESCAPED.search(stored) and not os.path.lexists(path):
        data = re.sub(
            rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()),
            stored.encode(),
        )  # fmt: skip
        return root / data.decode("utf-8", "surrogateescape")
    return path


def clean_id(path: str) -> str:
    r"""Return the id of a file by its path: composed, printable, valid text.

    >>> clean_id("a\n\u0065\u0301.png")
    'a\\né.png'
    """
    return printable(unicodedata.normalize("NFC", stored_name(path)))


def printable(text: str) -> str:
    r"""Return text with what a terminal would not print escaped.

    >>> printable("a\x1b[31m b")
    'a\\x1b[31m b'
    """
    text = stored_name(text)
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def find_spelling(path: Path) -> Path | None:
    """Return the file of a path, composed or decomposed; ``None`` if there is none."""
    for form in ("", "NFC", "NFD"):
        spelled = Path(unicodedata.normalize(form, str(path))) if form else path
        try:
            if spelled.is_file():
                return spelled
        except PermissionError:  # its reader says so
            return spelled
        except (OSError, ValueError):  # too long, or with a null character
            return None
    return None
