"""Near-duplicates: by perceptual hash in eight forms, and by embedding.

The first is searched with the Hamming kernel, the second with blocked matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.audit.limits import Limits
from landcue.audit.phash import FORMS, N_BITS, form, hashes
from landcue.codes.hamming import CodeIndex
from landcue.types import FloatArray

MOST = 256
"""At most so many near-duplicates of one image are listed (per form)."""
_BLOCK = 512

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Near:
    """Two images (rows, first < second) whose hashes agree.

    Attributes:
        first: Row of the first image.
        second: Row of the second image.
        distance: Differing bits of 64.
        form: Index into ``FORMS``: what turns the first into the second.
        correlation: Of their 32 x 32 gray values, -1..1.
    """

    first: int
    second: int
    distance: int
    form: int
    correlation: float


@dataclass(frozen=True, slots=True)
class Alike:
    """Two images (rows, first < second) whose embeddings have this cosine."""

    first: int
    second: int
    cosine: float


def hash_pairs(grays: FloatArray, limits: Limits) -> tuple[list[Near], bool]:
    """Find the near-duplicates among gray pictures ``[n, 32, 32]``; blank ones are left out.

    Returns:
        The pairs ordered by (distance, first, second), and whether an image has more
        near-duplicates than are listed.
    """
    kept = np.flatnonzero(grays.std(axis=(1, 2)) >= limits.blank)
    if len(kept) < 2:
        return [], False
    codes = hashes(grays[kept])
    index = CodeIndex(np.ascontiguousarray(codes[:, 0]), N_BITS)
    best: dict[tuple[int, int], tuple[int, int]] = {}
    cut = False
    for i in range(len(FORMS)):
        radius = limits.max_distance_turned if i else limits.max_distance
        first, second, distance, full = _within(index, np.ascontiguousarray(codes[:, i]), radius)
        cut |= full
        for a, b, d in zip(first.tolist(), second.tolist(), distance.tolist(), strict=True):
            best[a, b] = min(best.get((a, b), (d, i)), (d, i))
    pairs = [
        Near(int(kept[a]), int(kept[b]), d, i, _correlation(grays[kept[a]], grays[kept[b]], i))
        for (a, b), (d, i) in best.items()
    ]
    close = [pair for pair in pairs if pair.correlation >= limits.min_correlation]
    return sorted(close, key=lambda pair: (pair.distance, pair.first, pair.second)), cut


def _within(
    index: CodeIndex, queries: npt.NDArray[np.uint8], radius: int
) -> tuple[Rows, Rows, npt.NDArray[np.int32], bool]:
    """Return all (query, later row, distance) within ``radius``; ask for more where it is full."""
    asked = np.arange(len(queries))
    found: list[tuple[Rows, Rows, npt.NDArray[np.int32]]] = []
    k = min(8, len(index))
    while True:
        distances, rows = index.search(queries[asked], k)
        full = distances[:, -1] <= radius
        last = k >= min(MOST, len(index))
        done = np.full(len(asked), True) if last else ~full
        near = (distances <= radius) & (rows > asked[:, None]) & done[:, None]
        query, place = np.nonzero(near)
        found.append((asked[query], rows[query, place], distances[query, place]))
        if last or done.all():
            first, second, distance = (np.concatenate(part) for part in zip(*found, strict=True))
            return first, second, distance, bool(last and k < len(index) and full.any())
        asked, k = asked[full], min(4 * k, MOST, len(index))


def _correlation(first: FloatArray, second: FloatArray, index: int) -> float:
    a, b = form(first, index) - first.mean(), second - second.mean()
    # Summed in one order for all forms: a picture and its mirror image give the same number.
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return float((a64 * b64).sum() / np.sqrt((a64**2).sum() * (b64**2).sum()))


def embedding_pairs(
    embeddings: FloatArray, min_cosine: float, neighbors: int
) -> tuple[list[Alike], Rows, bool]:
    """Compare unit-norm embeddings ``[n, d]`` in blocks.

    Returns:
        The pairs of at least ``min_cosine``, most alike first; the rows of every image's nearest
        others, int64 ``[n, min(neighbors, n - 1)]`` in no particular order; and whether an image
        has more pairs than are listed.
    """
    n = len(embeddings)
    k = max(0, min(neighbors, n - 1))
    nearest = np.empty((n, k), np.int64)
    pairs: list[Alike] = []
    cut = False
    for start in range(0, n, _BLOCK):
        block = embeddings[start : start + _BLOCK] @ embeddings.T
        own = np.arange(len(block))
        block[own, start + own] = -2
        if k:
            nearest[start : start + _BLOCK] = np.argpartition(-block, k - 1, axis=1)[:, :k]
        later = (block >= min_cosine) & (np.arange(n) > start + own[:, None])
        for row in np.flatnonzero(later.any(axis=1)).tolist():
            others = np.flatnonzero(later[row])
            if len(others) > MOST:
                cut = True
                others = others[np.argsort(-block[row, others], kind="stable")[:MOST]]
            cosines = np.minimum(block[row, others], 1.0)
            pairs += [
                Alike(start + row, int(other), float(cosine))
                for other, cosine in zip(others, cosines, strict=True)
            ]
    return sorted(pairs, key=lambda p: (-p.cosine, p.first, p.second)), nearest, cut
