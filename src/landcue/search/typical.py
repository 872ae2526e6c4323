"""What a distance means in an archive: percentiles, and whether anything is similar to a query.

A cosine of 0.9 may be the nearest neighbor of an archive, or no nearer than any two of its records:
that depends on the encoder and on the images. So a sample of the records is searched for, and the
distances of their nearest neighbors are kept: percentiles are shares of these.

Nothing is said to be very similar where a query's best hit is farther than nearly all of them. That
does not recognize everything: an encoder may put noise or a plain color close to some records, and
still outside of all. Then it is much farther from the sample than its own hits are. The ratio of
the two is a local outlier factor (Breunig, Kriegel, Ng and Sander, SIGMOD 2000) whose densities are
those of the sample, so that its cost does not grow with the archive. Both are compared by
embeddings in all modes, as codes of 64 bits are too coarse, and by the encoder's own: a fit puts
the images that it was fitted to closer together than others of their kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.search.backend import Target, View
from landcue.search.pages import BEST
from landcue.search.vectors import OwnEmbeddings
from landcue.types import ByteArray, Encoding, FloatArray

if TYPE_CHECKING:
    from landcue.search.local import LocalBackend

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

FAMILIES = dict.fromkeys(("embedding", "two-stage", "ann", "fused"), "embedding") | {
    mode: mode for mode in ("code", "cue")
}
"""Which modes measure the same distance."""

RARE = 2.5
"""Percentage of the records that are as far from others, or as much outside, as a query must be."""

CLOSE = 50.0
"""Percentile of the best hit from which on it is similar, however far the query is outside."""

_SAMPLE = 256
_PAIRS = 2_000
_LEAST = 1e-3  # is added to both distances of a ratio
_NO_CODE: ByteArray = np.empty((1, 0), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Records that the others are compared with.

    Attributes:
        rows: Their rows, int64 ``[s]``, s >= 2.
        embedding: Their embeddings, float32 ``[s, d]``.
    """

    rows: Rows
    embedding: FloatArray

    def distances(self, embedding: FloatArray, rows: Rows | None = None) -> Floats:
        """Return the mean distance of vectors ``[m, d]`` to the nearest of the sample, ``[m]``.

        Args:
            embedding: Unit-norm vectors.
            rows: Their rows ``[m]``, if they are records, which are not compared with themselves.
        """
        apart = np.maximum(1.0 - embedding @ self.embedding.T, 0.0).astype(np.float64)
        if rows is not None:
            apart[rows[:, None] == self.rows] = np.inf
        k = min(BEST, len(self.rows) - 1)
        return np.partition(apart, k - 1, axis=1)[:, :k].mean(axis=1)

    def pairs(self) -> Floats:
        """Return the distances of its pairs, ascending, float64 ``[s * (s - 1) / 2]``."""
        above = np.triu_indices(len(self.rows), 1)
        return np.sort((1.0 - self.embedding @ self.embedding.T)[above].astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Typical:
    """Distances of a sample of an archive's records, or of general descriptions.

    Attributes:
        nearest: Of each to its nearest neighbor, float64 ``[s]``, ascending.
        near: The same by the encoder's own embeddings: that of the nearest of its best hits.
        pairs: Of random pairs by embeddings, float64 ``[p]``, ascending.
        ratios: Of its distance to the sample to that of its best hits, float64 ``[s]``, ascending.
        sample: The sample; ``None`` where they are distances of texts to records.
        own: The embeddings that records are compared by.
        query: The embedding of the query ``[1, d]``; ``None`` if it is a text.
        outside: Whether a query may be outside of all records: it is none of them, and all of them
            were searched.
    """

    nearest: Floats
    near: Floats
    pairs: Floats
    ratios: Floats
    sample: Sample | None
    own: OwnEmbeddings
    query: FloatArray | None = None
    outside: bool = False

    def percentiles(self, distances: Floats) -> Floats:
        """Return for each distance the percentage of records without a nearer neighbor.

        Args:
            distances: float64 ``[m]``.

        Returns:
            float64 ``[m]`` in 0..100: 100 for an identical image, 0 for one that is farther than
            any record from its nearest neighbor.
        """
        return _at_least(self.nearest, distances)

    def farthest(self, percentile: float) -> float:
        """Return the largest distance of at least this percentile."""
        least = percentile - 0.05  # they are shown with one digit
        below = int(np.floor(len(self.nearest) * (1 - least / 100) + 1e-9))
        return float(self.nearest[below]) if below < len(self.nearest) else np.inf

    def remark(self, distance: float, best: Rows) -> str | None:
        """Return one line if nothing is very similar to the query.

        Args:
            distance: The smallest of a hit.
            best: Rows of the :data:`landcue.search.pages.BEST` nearest records, fewer if there are
                not as many.
        """
        query = hits = None
        if self.query is not None and len(best):
            query, hits = self.own.of(self.query), self.own[best]
            if self.near is not self.nearest:  # the distances are not those of these embeddings
                distance = float(_cosine(hits, query).min())
        percentile = _share(self.near, distance)
        if percentile < RARE:
            if _share(self.pairs, distance) < 75:
                return "nothing here is very similar: the best hit is no closer than chance"
            whose = "general descriptions" if self.sample is None else "the records"
            return (
                "nothing here is very similar: the best hit is farther than the nearest neighbors "
                f"of {100 - percentile:.0f} % of {whose}"
            )
        if hits is None or query is None or self.sample is None:
            return None
        if not self.outside or percentile >= CLOSE:
            return None
        ratio = float(_ratios(self.sample, query, None, hits, best)[0])
        if _share(self.ratios, ratio) >= RARE:
            return None
        return (
            f"nothing here is very similar: the query is {ratio:.1f} times as far from a sample of "
            "the records as the best hits are"
        )

    @classmethod
    def from_table(
        cls, table: pa.Table, view: LocalBackend, family: str, *, texts: bool
    ) -> Typical:
        """Return the distances that :func:`measure_typical` measured."""
        values, kinds = table["value"].to_numpy(), table["kind"].to_numpy()
        nearest, near, ratios, rest = (values[kinds == kind] for kind in range(4))
        own = view.own_embeddings
        if texts:
            return cls(nearest, nearest, rest, ratios, None, own)
        rows = rest.astype(np.int64)
        sample = Sample(rows, own[rows])
        near = nearest if family == "embedding" and own.space is None else near
        return cls(nearest, near, sample.pairs(), ratios, sample, own)


def _ratios(
    sample: Sample, queries: FloatArray, rows: Rows | None, hits: FloatArray, best: Rows
) -> Floats:
    """Return the ratio of each of q queries ``[q, d]``, of whose h hits these are ``[q * h]``."""
    around = sample.distances(hits, best).reshape(len(queries), -1).mean(axis=1)
    return (sample.distances(queries, rows) + _LEAST) / (around + _LEAST)


def _cosine(vectors: FloatArray, query: FloatArray) -> Floats:
    return np.maximum(1.0 - (vectors.astype(np.float64) * query).sum(axis=-1), 0.0)


def _share(known: Floats, distance: float) -> float:
    return float(_at_least(known, np.array([distance]))[0])


def _at_least(known: Floats, distances: Floats) -> Floats:
    """Return the percentage of ``known`` that is as large as each distance, rounding aside."""
    below = np.searchsorted(known, distances - 1e-9)
    return 100.0 * (len(known) - below) / max(len(known), 1)


def _table(*values: npt.NDArray[Any]) -> pa.Table:
    kinds = np.repeat(np.arange(len(values)), [len(one) for one in values])
    return pa.table({"value": np.concatenate([np.sort(one) for one in values]), "kind": kinds})


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
    rows = np.sort(rng.choice(n, min(n, _SAMPLE), replace=False)).astype(np.int64)
    distances, found = view.neighbors(family, rows, BEST)
    own = view.own_embeddings
    embedding = own[rows]
    every, place = np.unique(found, return_inverse=True)
    hits = own[every][place.reshape(-1)]
    near = _cosine(hits.reshape(*found.shape, -1), embedding[:, None]).min(axis=1)
    ratios = _ratios(Sample(rows, embedding), embedding, rows, hits, found.reshape(-1))
    return _table(distances[:, 0], near, ratios, rows.astype(np.float64))


def _measure_texts(view: View, family: str, texts: Encoding, rng: np.random.Generator) -> pa.Table:
    """Return the distances of texts to their nearest records, and of random texts and records."""
    selection = view.select(None)
    parts = [slice(i, i + 1) for i in range(len(texts.embedding))]
    targets = [Target(texts.embedding[i], texts.code[i], _NO_CODE) for i in parts]
    if family == "embedding":
        rankings = [selection.by_embedding(target) for target in targets]
    else:
        rankings = selection.by_code(family, targets, 1, first=1)
    nearest = np.array([float(ranking.fetch(1)[0][0]) for ranking in rankings])
    rows, chosen = rng.integers(0, len(view.records), _PAIRS), rng.integers(0, len(parts), _PAIRS)
    if family == "embedding":
        pairs = _cosine(view.read_vectors("embedding", rows), texts.embedding[chosen])
    else:
        different = view.read_vectors("code", rows) ^ texts.code[chosen]
        pairs = np.unpackbits(different, axis=1).sum(axis=1).astype(np.float64)
    none = np.empty(0)
    return _table(nearest, none, none, pairs)


def typical_scores(embedding: FloatArray, sample: Rows, others: Rows) -> FloatArray:
    """Return cosines of a sample with its nearest neighbors and with others, ascending, -1 to 1.

    Args:
        embedding: Of records, float32 ``[n, d]``, unit norm.
        sample: Rows ``[s]``.
        others: A row for each of them, ``[s]``.
    """
    cosines = embedding[sample] @ embedding.T
    pairs = cosines[np.arange(len(sample)), others]
    cosines[np.arange(len(sample)), sample] = -1
    nearest = cosines.max(axis=1, initial=-1)
    return np.sort(np.concatenate([[-1, 1], nearest, pairs]).clip(-1, 1))
