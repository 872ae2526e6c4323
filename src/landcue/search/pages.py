"""Pages of one ranking: cursors, a least score, and near duplicates left out."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.types import FloatArray

_to_json = json.JSONEncoder(
    ensure_ascii=False
).encode  # created once: creation costs more than a run

_ROWS_AT_ONCE = 1_024

Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]
Fetch = Callable[[int], tuple[Distances, Rows]]
"""Returns the first K distances and rows of a ranking, ordered by (distance, row)."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended.

    Attributes:
        mark: Identifier of the searched content.
        mode: Search mode.
        seen: Hits on all pages so far.
        distance: Distance of the last hit.
        id: Id of the last hit.
        shortlist: Candidates of the first stage.
        lists: Lists visited by the approximate index.
    """

    mark: str
    mode: str
    seen: int
    distance: float
    id: str
    shortlist: int
    lists: int | None

    def encode(self) -> str:
        """Return the cursor as a string."""
        text = _to_json([getattr(self, name) for name in self.__slots__])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, word: str) -> Cursor:
        """Parse the result of :meth:`encode`.

        Raises:
            UsageError: It is not a cursor.
        """
        try:
            data = base64.b64decode(word + "=" * (-len(word) % 4), b"-_", validate=True)
            value: Any = json.loads(data)
        except (binascii.Error, ValueError, RecursionError):
            value = None
        if isinstance(value, list) and _plausible(value):
            return cls(*value)
        raise UsageError(
            f"the cursor {word[:40]!r} cannot be read: use the cursor of the last page unchanged"
        )


def _plausible(value: Sequence[Any]) -> bool:
    if len(value) != len(fields(Cursor)):
        return False
    mark, mode, seen, distance, id_, shortlist, lists = value
    return (
        all(isinstance(word, str) for word in (mark, mode, id_))
        and all(type(count) is int and count > 0 for count in (seen, shortlist))
        and (lists is None or (type(lists) is int and lists > 0))
        and type(distance) in (int, float)
        and math.isfinite(distance)
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Some consecutive hits of a ranking.

    Attributes:
        distances: float64 ``[m]``.
        rows: int64 ``[m]``.
        near: Near duplicates left out in favor of each, ``[m]``.
        before: Distance and row of the last hit of the page before, if there is one.
        more: Whether there are further hits.
    """

    distances: Distances
    rows: Rows
    near: npt.NDArray[np.int64]
    before: tuple[float, int] | None
    more: bool


def take_page(
    fetch: Fetch,
    seen: int,
    k: int,
    *,
    own: frozenset[int] = frozenset(),
    farthest: float | None = None,
    collapse: float | None = None,
    embeddings: Callable[[Rows], FloatArray] | None = None,
) -> Page:
    """Return hits ``seen`` to ``seen + k`` of a ranking.

    Args:
        fetch: The ranking.
        seen: Hits on earlier pages.
        k: Most hits of the page.
        own: Rows of the query records, which are left out.
        farthest: Hits beyond this distance are left out.
        collapse: A hit whose cosine distance to an earlier one is this or less is left out.
        embeddings: Returns those of ``[m]`` rows, float32 ``[m, d]``, for ``collapse``.
    """
    need = seen + k + 1  # one more shows whether there is a further page
    asked = need + len(own)
    while True:
        distances, rows = fetch(asked)
        done = len(rows) < asked
        keep = others(rows, own)
        if farthest is not None:
            done |= bool((distances > farthest).any())
            keep &= distances <= farthest
        distances, rows = distances[keep], rows[keep]
        near = np.zeros(len(rows), np.int64)
        if collapse is not None and embeddings is not None:
            kept, near = _collapse(embeddings, rows, collapse, need)
            distances, rows = distances[kept], rows[kept]
        if done or len(rows) >= need:
            break
        asked *= 2
    page = slice(seen, seen + k)
    before = None
    if 0 < seen <= len(rows):
        before = float(distances[seen - 1]), int(rows[seen - 1])
    return Page(distances[page], rows[page], near[page], before, len(rows) > seen + k)


def others(rows: Rows, own: frozenset[int]) -> npt.NDArray[np.bool_]:
    """Return bool ``[m]``: which rows are not query records."""
    keep = rows >= 0
    for row in own:
        keep &= rows != row
    return keep


def _collapse(
    embeddings: Callable[[Rows], FloatArray], rows: Rows, limit: float, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return positions of rows with no earlier kept one within ``limit``, and what they replace."""
    kept: list[int] = []
    near: list[int] = []
    chosen = np.empty((most, embeddings(rows[:0]).shape[1]), np.float64)
    for position, vector in enumerate(_each(embeddings, rows)):
        # Summed along each row separately: independent of the number of rows.
        far = 1 - (chosen[: len(kept)] * vector).sum(axis=1) > limit
        if not far.all():
            near[int(np.argmin(far))] += 1
        elif len(kept) < most:
            chosen[len(kept)] = vector
            kept.append(position)
            near.append(0)
        else:
            break
    return np.array(kept, np.int64), np.array(near, np.int64)


def _each(
    embeddings: Callable[[Rows], FloatArray], rows: Rows
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the embeddings of rows, read a block at a time: few are needed as a rule."""
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        yield from embeddings(rows[first : first + _ROWS_AT_ONCE]).astype(np.float64)
