"""What a distance means in an archive: compared with nearest neighbors, and with random pairs.

A cosine of 0.9 may be the nearest neighbor of an archive, or no nearer than any two of its records:
that depends on the encoder and on the images. So a sample of the records is searched for, and the
distances of their nearest neighbors are kept, with those of random pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.search.backend import Target, View
from landcue.search.pages import others
from landcue.types import ByteArray, Encoding, FloatArray

FAMILIES = dict.fromkeys(("embedding", "two-stage", "ann", "fused"), "embedding") | {
    mode: mode for mode in ("code", "cue")
}
"""Which modes measure the same distance."""

SIMILAR = 5.0
"""Percentile of the best hit below which nothing is said to be very similar."""

_SAMPLE = 256
_LARGE, _LARGE_SAMPLE = 200_000, 64
_PAIRS = 2_000
_NO_CODE: ByteArray = np.empty((1, 0), np.uint8)
_NO_EMBEDDING: FloatArray = np.empty((1, 0), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Typical:
    """Distances of a sample of an archive's records, or of general descriptions.

    Attributes:
        nearest: Of each to its nearest neighbor, float64 ``[s]``, ascending.
        pairs: Of random pairs, float64 ``[p]``, ascending.
        texts: Whether they are those of texts to records.
    """

    nearest: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.float64]
    texts: bool = False

    def percentiles(self, distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return for each distance the percentage of records without a nearer neighbor.

        >>> Typical(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5])).percentiles(np.array([0.2, 1]))
        array([75.,  0.])

        Args:
            distances: float64 ``[m]``.

        Returns:
            float64 ``[m]`` in 0..100: 100 for an identical image, 0 for one that is farther than
            any record from its nearest neighbor.
        """
        return _at_least(self.nearest, distances)

    def farthest(self, percentile: float) -> float:
        """Return the largest distance of at least this percentile.

        >>> Typical(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5])).farthest(75)
        0.2
        """
        least = percentile - 0.05  # they are shown with one digit
        below = int(np.floor(len(self.nearest) * (1 - least / 100) + 1e-9))
        return float(self.nearest[below]) if below < len(self.nearest) else np.inf

    def remark(self, distance: float) -> str | None:
        """Return one line if a best hit at this distance is not similar to the query."""
        percentile = float(_at_least(self.nearest, np.array([distance]))[0])
        if percentile >= SIMILAR:
            return None
        chance = float(_at_least(self.pairs, np.array([distance]))[0])
        if chance < 75:
            return "nothing here is very similar: the best hit is no closer than chance"
        whose = "general descriptions" if self.texts else "the records"
        return (
            "nothing here is very similar: the best hit is farther than the nearest neighbors of "
            f"{100 - percentile:.0f} % of {whose}"
        )

    @classmethod
    def from_table(cls, table: pa.Table, texts: bool = False) -> Typical:
        """Return the distances that :func:`measure_typical` measured."""
        values, nearest = table["distance"].to_numpy(), table["nearest"].to_numpy()
        return cls(values[nearest], values[~nearest], texts)


def _at_least(
    known: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the percentage of ``known`` that is as large as each distance, rounding aside."""
    below = np.searchsorted(known, distances - 1e-9)
    return 100.0 * (len(known) - below) / max(len(known), 1)


def measure_typical(view: View, family: str, texts: Encoding | None = None) -> pa.Table:
    """Search for a sample of an archive's records, or for texts; return the distances as a table.

    Args:
        view: The archive.
        family: ``embedding``, ``code`` or ``cue`` (with label weight 1; not with texts).
        texts: General descriptions, to search for instead of records.
    """
    n = len(view.records)
    rng = np.random.default_rng(0)
    if texts is not None:
        return _measure_texts(view, family, texts, rng)
    size = min(n, _SAMPLE if n <= _LARGE else _LARGE_SAMPLE)
    rows = np.sort(rng.choice(n, size, replace=False)).astype(np.int64)
    selection = view.select(None)
    if family == "embedding":
        vectors = view.read_vectors("embedding", rows)
        targets = [Target(vectors[i : i + 1], _NO_CODE, _NO_CODE) for i in range(size)]
        rankings = [selection.by_embedding(target) for target in targets]
    else:
        kinds = [view.read_vectors(kind, rows) for kind in ("code", "cue")[: 1 + (family == "cue")]]
        targets = [
            Target(_NO_EMBEDDING, kinds[0][i : i + 1], kinds[-1][i : i + 1]) for i in range(size)
        ]
        rankings = selection.by_code(family, targets, 1, first=2)
    nearest: list[float] = []
    for ranking, row in zip(rankings, rows.tolist(), strict=True):
        distances, found = ranking.fetch(2)
        nearest += distances[others(found, frozenset([row]))][:1].tolist()
    left, right = rng.integers(0, n, (2, _PAIRS))
    left, right = left[left != right], right[left != right]
    values = np.concatenate([np.sort(nearest), np.sort(_pairs(view, family, left, right))])
    return pa.table({"distance": values, "nearest": np.arange(len(values)) < len(nearest)})


def _measure_texts(view: View, family: str, texts: Encoding, rng: np.random.Generator) -> pa.Table:
    """Return the distances of texts to their nearest records, and of random texts and records."""
    selection = view.select(None)
    parts = [slice(i, i + 1) for i in range(len(texts.embedding))]
    targets = [Target(texts.embedding[i], texts.code[i], _NO_CODE) for i in parts]
    if family == "embedding":
        rankings = [selection.by_embedding(target) for target in targets]
    else:
        rankings = selection.by_code(family, targets, 1, first=1)
    nearest = [float(ranking.fetch(1)[0][0]) for ranking in rankings]
    rows, chosen = rng.integers(0, len(view.records), _PAIRS), rng.integers(0, len(parts), _PAIRS)
    if family == "embedding":
        vectors = view.read_vectors("embedding", rows).astype(np.float64)
        pairs = 1 - (vectors * texts.embedding[chosen]).sum(axis=1)
    else:
        pairs = _hamming(view.read_vectors("code", rows), texts.code[chosen])
    values = np.concatenate([np.sort(nearest), np.sort(pairs)])
    return pa.table({"distance": values, "nearest": np.arange(len(values)) < len(nearest)})


def _hamming(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.unpackbits(a.view(np.uint8) ^ b.view(np.uint8), axis=1).sum(axis=1).astype(np.float64)


def _pairs(
    view: View, family: str, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    def read(kind: str) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
        return view.read_vectors(kind, left), view.read_vectors(kind, right)

    if family == "embedding":
        a, b = read("embedding")
        return 1 - (a.astype(np.float64) * b.astype(np.float64)).sum(axis=1)
    different = np.zeros(len(left))
    for kind in ("code", "cue")[: 1 + (family == "cue")]:
        different += _hamming(*read(kind))
    return different
