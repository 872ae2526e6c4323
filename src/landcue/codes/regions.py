"""Regions of images: overlapping windows, their embeddings as int8, and the scan over them.

With R = S x S regions, each has ``2 / (S + 1)`` of the image's width and height, and begins half a
region after the one before: anything smaller than half a region lies whole in at least one of them.
 An embedding is stored as int8, scaled so that its largest value is 127 or -127;
the scale cancels in the cosine, which :class:`RegionIndex` computes from sums of integers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from landcue.codes.engine import (
    Engine,
    check_k,
    check_mask,
    check_threads,
    for_each,
    frozen,
    load_compiled,
    smallest,
)
from landcue.errors import UsageError
from landcue.types import FloatArray

MOST_REGIONS = 8
"""Most regions a side."""

_VALUES_PER_PART = 1 << 23
_ROWS_AT_ONCE = 4096

SignedBytes = npt.NDArray[np.int8]


def region_boxes(side: int) -> npt.NDArray[np.float64]:
    """Return left, top, right and bottom of each region as shares of an image, ``[side**2, 4]``.

    >>> region_boxes(3)[4].tolist()
    [0.25, 0.25, 0.75, 0.75]

    Args:
        side: Regions a side, 2 to 8; they are in the order of rows.
    """
    if not 2 <= side <= MOST_REGIONS:
        raise UsageError(f"{side} regions a side: use 2 to {MOST_REGIONS}")
    starts = np.arange(side) / (side + 1)
    top, left = (grid.ravel() for grid in np.meshgrid(starts, starts, indexing="ij"))
    length = 2 / (side + 1)
    return np.stack([left, top, left + length, top + length], axis=1)


def region_windows(side: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """Return left, top, right and bottom of each region in pixels, ``[side**2, 4]``, none empty.

    >>> region_windows(3, 100, 200)[4].tolist()
    [50, 25, 150, 75]
    """
    return np.array([region_pixels(box, height, width) for box in region_boxes(side)])


def region_pixels(box: Iterable[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in pixels of a part of an image, at least one pixel."""
    left, top, right, bottom = (
        round(part * length)
        for part, length in zip(box, (width, height, width, height), strict=True)
    )
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def to_int8(embeddings: FloatArray) -> SignedBytes:
    """Return embeddings ``[m, d]`` as int8, each scaled so that its largest value is 127.

    >>> to_int8(np.array([[0.6, -0.8]], np.float32)).tolist()
    [[95, -127]]
    """
    wide = embeddings.astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    return np.round(wide * (127 / np.where(largest > 0, largest, 1))).astype(np.int8)


class RegionIndex:
    """Embeddings of the regions of n images, searched exactly."""

    def __init__(self, regions: SignedBytes, dim: int, *, engine: Engine = "auto") -> None:
        """Hold int8 ``[n, R * dim]``, which is shared, not copied."""
        if regions.dtype != np.int8 or regions.ndim != 2 or regions.shape[1] % dim:
            raise UsageError(
                f"regions are {regions.dtype} {list(regions.shape)}: use int8 [n, R * {dim}]"
            )
        self._rows, self._dim = frozen(regions), dim
        self._engine: Engine = engine

    def __len__(self) -> int:
        return len(self._rows)

    def search(
        self, query: FloatArray, k: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return the k images with the nearest regions, ordered by (distance, row).

        Args:
            query: Embedding float32 ``[d]`` or ``[1, d]``; it is scaled to int8 like the regions.
            k: Hits, at least 1.
            mask: bool ``[n]``, true for the allowed rows; all rows if ``None``.

        Returns:
            ``1 - cosine`` to the nearest region, float64, and rows int64, both ``[k']`` with
            k' = k, or the number of allowed rows if that is less.

        Raises:
            UsageError: The query, ``k`` or the mask is not valid.
        """
        allowed = check_mask(mask, len(self))
        k = min(check_k(k), allowed)
        if not k:
            return np.empty(0), np.empty(0, np.int64)
        asked = self._asked(query)
        best = np.empty(len(self), np.float64)
        compiled = load_compiled(self._engine)
        n_parts = max(1, self._rows.size // _VALUES_PER_PART)

        def run(part: int) -> None:
            start, stop = (len(self) * at // n_parts for at in (part, part + 1))
            if compiled is not None:
                compiled.region_scores()(self._rows, start, stop, asked, best)
                return
            for first in range(start, stop, _ROWS_AT_ONCE):
                some = slice(first, min(first + _ROWS_AT_ONCE, stop))
                best[some] = self._scores(self._rows[some], asked).max(axis=1)

        for_each(run, n_parts, check_threads(None))
        distances = 1 - best / _norm(asked)
        rows = np.arange(len(self)) if mask is None else np.flatnonzero(mask)
        order = smallest(distances[rows], k)
        return distances[rows][order], rows[order]

    def nearest_regions(
        self, query: FloatArray, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return which region of each of ``[m]`` rows is nearest, the first of equal ones."""
        return self._scores(self._rows[rows], self._asked(query)).argmax(axis=1)

    def _asked(self, query: FloatArray) -> SignedBytes:
        flat = np.asarray(query, np.float32).reshape(-1)
        if flat.shape != (self._dim,) or not np.isfinite(flat).all():
            raise UsageError(f"the query has {flat.size} values: use {self._dim} finite ones")
        return frozen(to_int8(flat[None])[0])

    def _scores(self, rows: SignedBytes, asked: SignedBytes) -> npt.NDArray[np.float64]:
        """Return products with the query over the norms of the regions, ``[m, R]``."""
        wide = rows.reshape(len(rows), -1, self._dim).astype(np.int32)
        squares = np.maximum(np.einsum("mrd,mrd->mr", wide, wide), 1)
        return np.einsum("mrd,d->mr", wide, asked.astype(np.int32)) / np.sqrt(squares)


def _norm(vector: SignedBytes) -> float:
    return float(np.sqrt(max(int(np.square(vector.astype(np.int64)).sum()), 1)))
