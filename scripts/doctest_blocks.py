"""Render the doctests of docstrings as code blocks in the docs.

A Griffe extension, named in ``mkdocs.yml``: without it Markdown reads an expected output such as
``['a.png']`` as a link.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

BLOCK = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)


def fence(text: str) -> str:
    """Return a docstring with its doctests inside Markdown fences."""
    return BLOCK.sub(lambda m: f"{m[1]}```pycon\n{m[0]}\n{m[1]}```", text)


class DoctestBlocks(griffe.Extension):
    """Fences the doctests of every object that Griffe reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object after it was read."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = fence(obj.docstring.value)
