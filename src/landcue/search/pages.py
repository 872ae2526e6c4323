"""Pages of one ranking: cursors, a least score, and near duplicates left out."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.search.vectors import one_blas_thread
from landcue.types import FloatArray

_to_json = json.JSONEncoder(
    ensure_ascii=False
).encode  # created once: creation costs more than a run

MOST_COLLAPSED = 5_000
"""Records among which the hits of a page without near duplicates are looked for."""

BEST = 10
"""Nearest records of a page, on which it depends whether anything is similar to the query."""

_ROWS_AT_ONCE = 1_024
_COMPARED_AT_ONCE = 256
_ROUNDING = 5e-13
"""Sums of products differ in their last bits with the number of rows."""

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
        """Parse the result of :meth:`encode`."""
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
        best: Rows of the :data:`BEST` nearest records, those included that are left out, int64.
    """

    distances: Distances
    rows: Rows
    near: npt.NDArray[np.int64]
    before: tuple[float, int] | None
    more: bool
    best: Rows = field(default_factory=lambda: np.empty(0, np.int64))


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
        collapse: A hit whose cosine distance to an earlier one is this or less is left out. Hits
            are looked for among the nearest :data:`MOST_COLLAPSED` records, or twice the page.
        embeddings: Returns those of ``[m]`` rows, float32 ``[m, d]``, for ``collapse``.
    """
    need = seen + k + 1  # one more shows whether there is a further page
    asked = max(need, BEST) + len(own)
    bound = max(MOST_COLLAPSED, 2 * asked)
    distinct = None
    if collapse is not None and embeddings is not None:
        distinct = _Distinct(embeddings, collapse, need)
    while True:
        distances, rows = fetch(asked)
        done = len(rows) < asked
        keep = others(rows, own)
        best = rows[keep][:BEST]
        if farthest is not None:
            done |= bool((distances > farthest).any())
            keep &= distances <= farthest
        distances, rows = distances[keep], rows[keep]
        near = np.zeros(len(rows), np.int64)
        if distinct is not None:
            with one_blas_thread():
                distinct.extend(rows)
            kept = np.array(distinct.kept, np.int64)
            distances, rows = distances[kept], rows[kept]
            near = distinct.near[: len(rows)]
        if done or len(rows) >= need or (collapse is not None and asked >= bound):
            break
        asked = 2 * asked if collapse is None else min(8 * asked, bound)
    page = slice(seen, seen + k)
    before = None
    if 0 < seen <= len(rows):
        before = float(distances[seen - 1]), int(rows[seen - 1])
    return Page(distances[page], rows[page], near[page], before, len(rows) > seen + k, best)


def others(rows: Rows, own: frozenset[int]) -> npt.NDArray[np.bool_]:
    """Return bool ``[m]``: which rows are not query records."""
    keep = rows >= 0
    for row in own:
        keep &= rows != row
    return keep


class _Distinct:
    """Rows with no earlier one within a cosine distance, and how many each replaces.

    Attributes:
        kept: Positions of these rows in the ranking.
        near: Rows that each replaces.
    """

    def __init__(self, embeddings: Callable[[Rows], FloatArray], limit: float, most: int) -> None:
        self.kept: list[int] = []
        self.near = np.zeros(most, np.int64)
        self._embeddings, self._most = embeddings, most
        self._least = 1 - limit - _ROUNDING
        self._chosen = np.empty((most, embeddings(np.empty(0, np.int64)).shape[1]), np.float64)
        self._seen = 0

    def extend(self, rows: Rows) -> None:
        """Compare the rows of a ranking that were not seen yet, until ``most`` are kept."""
        while self._seen < len(rows):
            block = self._embeddings(rows[self._seen : self._seen + _ROWS_AT_ONCE])
            for first in range(0, len(block), _COMPARED_AT_ONCE):
                if not self._compare(block[first : first + _COMPARED_AT_ONCE].astype(np.float64)):
                    return

    def _compare(self, block: npt.NDArray[np.float64]) -> bool:
        """Compare the next rows; return whether further ones belong to the same page."""
        before = len(self.kept)
        close = block @ self._chosen[:before].T >= self._least
        repeated: npt.NDArray[np.bool_] = np.any(close, axis=1)
        # Of rows that are near none kept before, each may be near an earlier one of this block.
        free = np.flatnonzero(~repeated)
        within = np.triu(block[free] @ block[free].T >= self._least, 1)
        owner = np.full(len(free), -1)
        end = len(block)
        for i in range(len(free)):
            if owner[i] >= 0:
                continue
            if len(self.kept) == self._most:
                end = int(free[i])  # here the next page begins
                break
            owner[within[i] & (owner < 0)] = len(self.kept)
            self._chosen[len(self.kept)] = block[free[i]]
            self.kept.append(self._seen + int(free[i]))
        counted = np.flatnonzero(repeated[:end])
        if before:
            self.near[:before] += np.bincount(close[counted].argmax(axis=1), minlength=before)
        owned = owner[(owner >= 0) & (free < end)]
        self.near += np.bincount(owned, minlength=self._most)
        self._seen += end
        return end == len(block)
