"""Exact duplicates: files of the same bytes, and images of the same decoded pixels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from landcue.types import Record


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are one picture.

    Attributes:
        rows: Rows of the images, ascending.
        same_bytes: Whether the files are equal byte by byte, and not only when decoded.
    """

    rows: tuple[int, ...]
    same_bytes: bool


def groups_of(keys: Sequence[Hashable | None]) -> list[tuple[int, ...]]:
    """Return the rows that share a key, where two or more do; ``None`` is no key."""
    rows: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            rows.setdefault(key, []).append(row)
    return sorted(tuple(group) for group in rows.values() if len(group) > 1)


def contradictions(pairs: Sequence[tuple[int, ...]], records: Sequence[Record]) -> list[int]:
    """Return the positions in ``pairs`` whose annotated images differ in labels or in group.

    An image that nobody annotated contradicts nothing.
    """
    found: list[int] = []
    for position, rows in enumerate(pairs):
        labels = {frozenset(x) for row in rows if (x := records[row].labels) is not None}
        scenes = {x for row in rows if (x := records[row].group) is not None}
        if len(labels) > 1 or len(scenes) > 1:
            found.append(position)
    return found
