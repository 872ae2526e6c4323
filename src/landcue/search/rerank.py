"""Rankings by embeddings and label probabilities together, and re-rankers of a shortlist. NumPy.

With the gain ``2^g - 1`` of g shared labels, and labels that are independent given the images,
``E[gain] = prod_c (1 + p_c r_c) - 1`` for the label probabilities p of a query and r of a record.
A fused ranking sorts by the cosine plus a weight times that gain. All functions take arrays and
treat queries independently, so that a result does not depend on what else was asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes import unpack_bits
from landcue.codes.hashers import Decoder
from landcue.errors import UsageError
from landcue.types import ByteArray

Floats = npt.NDArray[np.floating[Any]]
Matrix = npt.NDArray[np.float64]

_VALUES_AT_ONCE = 1 << 22


def log_gain(queries: Floats, records: Floats) -> Matrix:
    """Return ``log(1 + E[gain])``, float64 ``[q, n]``: the sum of ``log(1 + p_c r_c)`` over labels.

    >>> np.exp(log_gain(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 0.0]]))).round(6)
    array([[4., 2.]])

    Args:
        queries: Label probabilities ``[q, C]``, 0 to 1.
        records: Label probabilities ``[n, C]``.
    """
    first, second = _probabilities(queries, "queries"), _probabilities(records, "records")
    if first.shape[1] != second.shape[1]:
        raise UsageError(
            f"the queries have {first.shape[1]} label probabilities, the records "
            f"{second.shape[1]}: encode both with the same model"
        )
    total = np.empty((len(first), len(second)))
    step = max(1, _VALUES_AT_ONCE // max(1, second.size))
    for at in range(0, len(first), step):
        # Summed along the labels of each pair on its own: equal records tie exactly.
        total[at : at + step] = np.log1p(first[at : at + step, None] * second).sum(axis=2)
    return total


def expected_shared(queries: Floats, records: Floats) -> Matrix:
    """Return the expected number of shared labels, ``sum_c p_c r_c``, float64 ``[q, n]``.

    The first-order form of the expected gain, and an inner product.

    Arguments and errors as of :func:`log_gain`.
    """
    return _probabilities(queries, "queries") @ _probabilities(records, "records").T


def label_scale(cosine: Floats, gain: Floats) -> float:
    """Return the factor that gives gains the standard deviation of the cosines.

    ``cosine + weight * label_scale(cosine, gain) * gain`` sorts like a mean of z-scores with
    weights 1 and ``weight``. Take it once for an archive, from pairs of its own records.

    Args:
        cosine: Cosines of any pairs.
        gain: Values of a function of this module for the same pairs.
    """
    spread = float(np.std(gain, dtype=np.float64)) if gain.size else 0.0
    return float(np.std(cosine, dtype=np.float64)) / spread if spread > 0 else 0.0


def alpha_qe(queries: Floats, gallery: Floats, k: int = 10, alpha: float = 3.0) -> Matrix:
    """Expand queries by their nearest records: unit vectors float64 ``[q, d]``.

    alpha-weighted query expansion of Radenovic, Tolias and Chum, TPAMI 2019, section 4.3: the
    query plus its k nearest, each with its cosine to the power alpha, scaled to length 1. A
    negative cosine counts as 0.

    >>> alpha_qe(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [0.0, 1.0]]), k=1, alpha=1).round(3)
    array([[0.943, 0.333]])

    Args:
        queries: Unit vectors ``[q, d]``.
        gallery: Unit vectors ``[n, d]``; without the query itself.
        k: Records that each query is expanded by; all if there are fewer.
        alpha: 0 or more; 0 gives all k the same weight.
    """
    if k < 1 or not 0 <= alpha < np.inf:
        raise UsageError(f"k is {k} and alpha {alpha}: use k of 1 or more, alpha of 0 or more")
    wide, others = queries.astype(np.float64), gallery.astype(np.float64)
    cosine = wide @ others.T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    nearest = np.maximum(np.take_along_axis(cosine, order, axis=1), 0.0)
    weights = np.where(nearest > 0, nearest**alpha, 0.0)
    expanded = wide + np.einsum("qk,qkd->qd", weights, others[order])
    return expanded / np.linalg.norm(expanded, axis=1, keepdims=True)


def k_reciprocal(
    distances: Floats, k1: int = 20, k2: int = 6, weight: float = 0.3, queries: int | None = None
) -> Matrix:
    """Re-rank by shared neighborhoods: distances float64 ``[q, n]``, smaller is nearer.

    k-reciprocal encoding of Zhong, Zheng, Cao and Li, CVPR 2017, equations 3 to 12. N(p, k) is p
    itself and its k nearest items; R(p, k) are the g of N(p, k) with p in N(g, k). R(p, k1) is
    joined by R(g, k1 / 2) of each of its members g that shares two thirds of it. Every item of the
    set has the weight exp(-d), an item's weights are averaged with those of its k2 nearest (itself
    among them), and the Jaccard distance of two such vectors is mixed with the distance.

    The cost grows with n^3, so give it a query and its shortlist.

    Args:
        distances: Of all pairs, ``[n, n]`` with n the queries and their candidates.
        k1: Neighbors that may be reciprocal.
        k2: Items whose vectors are averaged; 1 for none.
        weight: Of the distance itself, 0..1; the rest is that of the Jaccard distance.
        queries: The first so many rows are returned; by default all.
    """
    given = np.asarray(distances, np.float64)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not np.isfinite(given).all():
        raise UsageError(f"distances have shape {list(given.shape)}: use finite ones, [n, n]")
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise UsageError(f"k1 {k1}, k2 {k2}, weight {weight}: use 1 or more, and 0 to 1")
    n = len(given)
    own = given.copy()
    np.fill_diagonal(own, -np.inf)  # an item is its own nearest, also beside an equal one
    order = np.argsort(own, axis=1, kind="stable")
    near = _reciprocal(order, k1)
    half = _reciprocal(order, max(1, round(k1 / 2))).astype(np.float32)
    shared = near.astype(np.float32) @ half.T
    joined = near & (3 * shared >= 2 * half.sum(axis=1))
    members = near | (joined.astype(np.float32) @ half > 0)
    vectors = np.where(members, np.exp(-given), 0.0)
    if k2 > 1:
        vectors = np.stack([vectors[order[row, :k2]].mean(axis=0) for row in range(n)])
    mass, count = vectors.sum(axis=1), n if queries is None else queries
    result = np.empty((count, n))
    for row in range(count):
        filled = np.flatnonzero(vectors[row])
        common = np.minimum(vectors[row, filled], vectors[:, filled]).sum(axis=1)
        result[row] = 1 - common / (mass[row] + mass - common)
    return (1 - weight) * result + weight * given[:count]


def _reciprocal(order: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.bool_]:
    """Return bool ``[n, n]``: which items are among each other's first k, or are the same."""
    near = np.zeros(order.shape, np.bool_)
    np.put_along_axis(near, order[:, : k + 1], True, axis=1)
    return near & near.T


def quantize(probabilities: Floats, bits: int = 2) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """Cut probabilities into ``2 ** bits`` equal steps.

    >>> levels, values = quantize(np.array([[0.02, 0.9], [0.04, 0.6]]), bits=1)
    >>> levels, values.round(2)
    (array([[0, 1],
           [0, 1]], dtype=uint8), array([0.03, 0.75]))

    Args:
        probabilities: ``[n, C]``, 0 to 1.
        bits: 1 to 8.

    Returns:
        The step of each value, uint8 ``[n, C]``, and the probability that each step stands for,
        float64 ``[2 ** bits]``: the mean of the values in it, or its middle if there are none.
        ``log_gain(queries, values[levels])`` compares exact queries with such records.
    """
    if not 1 <= bits <= 8:
        raise UsageError(f"{bits} bits per probability: use 1 to 8")
    wide, count = _probabilities(probabilities, "records"), 2**bits
    levels = np.minimum(wide * count, count - 1).astype(np.uint8)
    filled = np.bincount(levels.ravel(), minlength=count)
    sums = np.bincount(levels.ravel(), wide.ravel(), minlength=count)
    middles = (np.arange(count) + 0.5) / count
    return levels, np.where(filled > 0, sums / np.maximum(1, filled), middles)


class FusedCodes:
    """Hash codes and quantized label probabilities of n records, ranked by exact queries.

    A record takes its hash bits and ``bits`` for each label. A query keeps its floats: its score
    is the inner product with the decoded code (asymmetric search) plus ``weight`` times the log
    gain with the quantized probabilities. A scan adds one entry of a table per byte of a record.

    Attributes:
        bits_per_record: Hash bits and bits of the label probabilities.
    """

    def __init__(
        self, codes: ByteArray, probabilities: Floats, decoder: Decoder, *, bits: int = 2
    ) -> None:
        """Quantize the probabilities; the codes are kept as they are.

        Args:
            codes: Packed uint8 ``[n, ceil(n_bits / 8)]``.
            probabilities: Label probabilities ``[n, C]``, 0 to 1.
            decoder: Maps codes to embeddings: :func:`landcue.codes.hashers.fit_decoder`.
            bits: Bits of each probability, 1 to 8.
        """
        if len(codes) != len(probabilities):
            raise UsageError(
                f"{len(codes)} codes and {len(probabilities)} rows of label probabilities: encode "
                "the same records"
            )
        unpack_bits(codes[:1], decoder.n_bits)  # checks their size
        levels, self._values = quantize(probabilities, bits)
        self._decoder, self._n_labels = decoder, levels.shape[1]
        self._per_byte = max(1, 8 // bits)  # labels of which a byte holds the levels
        self._bits = bits
        levels = np.pad(levels, ((0, 0), (0, -self._n_labels % self._per_byte)))
        packed = np.zeros((len(levels), levels.shape[1] // self._per_byte), np.uint8)
        for place in range(self._per_byte):
            packed |= levels[:, place :: self._per_byte] << (bits * place)
        self._bytes = np.ascontiguousarray(np.concatenate([codes, packed], axis=1).T)
        self.bits_per_record = decoder.n_bits + bits * self._n_labels

    def __len__(self) -> int:
        return self._bytes.shape[1]

    def scores(self, embeddings: Floats, probabilities: Floats, weight: float = 1.0) -> Matrix:
        """Return the scores of exact queries, float64 ``[q, n]``; equal records tie.

        Args:
            embeddings: Unit vectors ``[q, d]``.
            probabilities: Label probabilities ``[q, C]``.
            weight: Of the log gain, 0 or more; see :func:`label_scale`.

        Raises:
            UsageError: Queries of other sizes, or values that are not probabilities.
        """
        tables = self._tables(embeddings, probabilities, check_weight(weight))
        total = np.zeros((len(tables), len(self)))
        for query, table in enumerate(tables):
            for entries, values in zip(table, self._bytes, strict=True):
                total[query] += entries[values]
        return total

    def _tables(self, embeddings: Floats, probabilities: Floats, weight: float) -> Matrix:
        """Return what each value of each byte adds to the score, ``[q, bytes, 256]``."""
        wide = _probabilities(probabilities, "queries")
        if wide.shape[1] != self._n_labels:
            raise UsageError(
                f"the queries have {wide.shape[1]} label probabilities, the records "
                f"{self._n_labels}: encode both with the same model"
            )
        per_bit = self._decoder.per_bit(embeddings)
        per_bit = np.pad(per_bit, ((0, 0), (0, -per_bit.shape[1] % 8))).reshape(len(wide), -1, 8)
        every = np.arange(256, dtype=np.uint8)
        signs = np.where(np.unpackbits(every[:, None], axis=1, bitorder="little"), 1.0, -1.0)
        code = per_bit @ signs.T
        code[:, 0] += (embeddings.astype(np.float64) @ self._decoder.bias)[:, None]

        shifts = self._bits * np.arange(self._per_byte)
        level = (every[:, None] >> shifts) & (2**self._bits - 1)  # [256, labels of a byte]
        padded = np.pad(wide, ((0, 0), (0, -self._n_labels % self._per_byte)))
        padded = padded.reshape(len(wide), -1, 1, self._per_byte)
        label = weight * np.log1p(padded * self._values[level]).sum(axis=3)
        return np.concatenate([code, label], axis=1)


def check_weight(weight: float) -> float:
    """Check the weight of the labels in a fused ranking."""
    if not 0 <= weight < np.inf:
        raise UsageError(f"the weight of the labels is {weight}: use 0 or more")
    return weight


def _probabilities(values: Floats, name: str) -> Matrix:
    wide = np.asarray(values, np.float64)
    if wide.ndim != 2 or not wide.shape[1]:
        raise UsageError(
            f"label probabilities of the {name} have shape {list(wide.shape)}: use [n, labels] of "
            "a model with a label head"
        )
    broken = np.flatnonzero(~((wide >= 0) & (wide <= 1)).all(axis=1))  # also for NaN
    if broken.size:
        raise UsageError(
            f"row {int(broken[0])} of the {name} has a label probability outside 0..1, or NaN: "
            "check the model's label head and its calibration"
        )
    return wide
