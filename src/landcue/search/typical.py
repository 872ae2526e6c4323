"""What a distance means in an archive: compared with nearest neighbors, and with random pairs.

A cosine of 0.9 may be the nearest neighbor of an archive, or no nearer than any two of its records:
that depends on the encoder and on the images. So a sample of the records is searched for, and the
distances of their nearest neighbors are kept, with those of random pairs.

An encoder may put noise or a plain color close to many records, and still outside of all: then its
hits are much farther from it than from their own neighbors. So the ratio of the two is kept, too, a
local outlier factor (Breunig, Kriegel, Ng and Sander, SIGMOD 2000) of :data:`HITS` neighbors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.search.backend import Target, View
from landcue.types import ByteArray, Encoding

if TYPE_CHECKING:
    from landcue.search.local import LocalBackend

FAMILIES = dict.fromkeys(("embedding", "two-stage", "ann", "fused"), "embedding") | {
    mode: mode for mode in ("code", "cue")
}
"""Which modes measure the same distance."""

SIMILAR = 2.5
"""Percentile of the best hit below which nothing is said to be very similar."""

UNLIKE = 2.5
"""Percentage of records with the largest ratios: beyond these a query is unlike the records."""

HITS = 10
"""Hits whose own nearest neighbors are compared with a query: the ratio of mean distances."""

_SAMPLE = 256
_LARGE, _LARGE_SAMPLE = 200_000, 64
_PAIRS = 2_000
_NO_CODE: ByteArray = np.empty((1, 0), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Typical:
    """Distances of a sample of an archive's records, or of general descriptions.

    Attributes:
        nearest: Of each to its nearest neighbor, float64 ``[s]``, ascending.
        pairs: Of random pairs, float64 ``[p]``, ascending.
        texts: Whether they are those of texts to records.
        ratios: Of the distances of its nearest records to those of their own nearest neighbors,
            float64 ``[s]``, ascending; empty for texts.
        apart: Returns the mean distance of each of some rows to its :data:`HITS` nearest neighbors,
            float64 ``[m]``; ``None`` where the query is a record, or not all records are searched.
        least: What is added to both distances of a ratio.
    """

    nearest: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.float64]
    texts: bool = False
    ratios: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    apart: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]] | None = None
    least: float = 1e-3

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

    def remark(self, distances: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> str | None:
        """Return one line if the best hits, ``[m]`` with m >= 1, are not similar to the query."""
        distance = float(distances.min())
        percentile = float(_at_least(self.nearest, np.array([distance]))[0])
        if percentile >= SIMILAR:
            return self._unlike(distances[:HITS], rows[:HITS])
        chance = float(_at_least(self.pairs, np.array([distance]))[0])
        if chance < 75:
            return "nothing here is very similar: the best hit is no closer than chance"
        whose = "general descriptions" if self.texts else "the records"
        return (
            "nothing here is very similar: the best hit is farther than the nearest neighbors of "
            f"{100 - percentile:.0f} % of {whose}"
        )

    def _unlike(
        self, distances: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]
    ) -> str | None:
        if self.apart is None or not len(self.ratios):
            return None
        ratio = _ratio(distances, self.apart(rows), self.least)
        if float(_at_least(self.ratios, np.array([ratio]))[0]) >= UNLIKE:
            return None
        return (
            f"nothing here is very similar: the best hits are {ratio:.1f} times as far from the "
            "query as from their own nearest neighbors"
        )

    @classmethod
    def from_table(cls, table: pa.Table, **options: Any) -> Typical:
        """Return the distances that :func:`measure_typical` measured; ``options`` as attributes."""
        values, kinds = table["value"].to_numpy(), table["kind"].to_numpy()
        nearest, pairs, ratios = (values[kinds == kind] for kind in range(3))
        return cls(nearest, pairs, ratios=ratios, **options)


def _ratio(
    distances: npt.NDArray[np.float64], apart: npt.NDArray[np.float64], least: float
) -> float:
    return float((distances.mean() + least) / (apart.mean() + least))


def _table(*values: npt.NDArray[np.float64]) -> pa.Table:
    kinds = np.repeat(np.arange(len(values)), [len(one) for one in values])
    return pa.table({"value": np.concatenate([np.sort(one) for one in values]), "kind": kinds})


def _at_least(
    known: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the percentage of ``known`` that is as large as each distance, rounding aside."""
    below = np.searchsorted(known, distances - 1e-9)
    return 100.0 * (len(known) - below) / max(len(known), 1)


def measure_typical(view: LocalBackend, family: str, texts: Encoding | None = None) -> pa.Table:
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
    distances, found = view.neighbors(family, rows, HITS)
    around = np.unique(found)
    apart = view.neighbors(family, around, HITS)[0].mean(axis=1)[np.searchsorted(around, found)]
    least = least_of(family)
    ratios = [_ratio(*pair, least) for pair in zip(distances, apart, strict=True)]
    left, right = rng.integers(0, n, (2, _PAIRS))
    left, right = left[left != right], right[left != right]
    return _table(distances[:, 0], _pairs(view, family, left, right), np.array(ratios))


def least_of(family: str) -> float:
    """Return what is added to both distances of a ratio: of codes one bit."""
    return 1e-3 if family == "embedding" else 1.0


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
    return _table(np.array(nearest), pairs)


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
