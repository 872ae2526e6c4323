"""Distances of queries to a gallery, a few queries at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.types import ByteArray, FloatArray

Matrix = npt.NDArray[Any]

_VALUES_AT_ONCE = 2**22  # gallery values widened to float64 at a time, 32 MiB
_NORM_TOLERANCE = 1e-2  # vectors stored in half precision pass
_TIMED, _TIMED_K = 50, 100


@dataclass(frozen=True, slots=True)
class Distances:
    """How far n gallery items are from q queries; the smaller the nearer.

    Attributes:
        kind: ``cosine``, ``hamming``, ``cue``, ``decoded`` or ``given``; in whole numbers many
            items tie.
        n_query: q.
        n_gallery: n.
        rows: Returns the distances ``[len, n]`` of a slice of the queries.
    """

    kind: str
    n_query: int
    n_gallery: int
    rows: Callable[[slice], Matrix]


@dataclass(frozen=True, slots=True)
class RetrievalTime:
    """How long a query took; two measurements differ.

    Attributes:
        median_ms: Milliseconds of one query, the median over the queries.
        n_query: Queries that were measured, one at a time.
        k: Nearest gallery items that were sorted.
    """

    median_ms: float
    n_query: int
    k: int

    def describe(self) -> str:
        """Return how the time was measured."""
        return (
            f"median of {self.n_query} queries, one at a time: distances to the whole gallery as "
            f"they are computed here, and the nearest {self.k} sorted; without encoding the query"
        )


def time_queries(distances: Distances) -> RetrievalTime:
    """Measure how long a query takes: its distances to the gallery and its nearest 100 in order.

    Up to 50 queries, evenly spaced, are measured one at a time after one that is not counted. It
    is the exact scan of an evaluation, in NumPy; the searches of an archive are compiled.

    Raises:
        UsageError: No query or no gallery item.

    >>> time_queries(given(np.eye(3))).n_query
    3
    """
    if not (distances.n_query and distances.n_gallery):
        raise UsageError("no query or no gallery item, so no retrieval can be timed")
    k = min(_TIMED_K, distances.n_gallery)
    rows = np.linspace(0, distances.n_query - 1, min(_TIMED, distances.n_query)).astype(int)
    seconds: list[float] = []
    for row in (rows[0], *rows):
        start = time.perf_counter()
        found = distances.rows(slice(int(row), int(row) + 1))[0]
        nearest = np.argpartition(found, k - 1)[:k]
        nearest[np.lexsort((nearest, found[nearest]))]
        seconds.append(time.perf_counter() - start)
    return RetrievalTime(1000 * float(np.median(seconds[1:])), len(rows), k)


def cosine(query: FloatArray, gallery: FloatArray, *, block: int = _VALUES_AT_ONCE) -> Distances:
    """Return ``1 - dot`` of unit vectors as float32.

    Products are summed in float64 and rounded once, to about 6e-8: equal vectors tie, whatever
    their place in the matrix.

    Args:
        query: Unit vectors ``[q, d]``.
        gallery: Unit vectors ``[n, d]``.
        block: Gallery values that are widened to float64 at once.

    Raises:
        UsageError: The vectors are not finite ``[n, d]`` of unit norm with one d.

    >>> vectors = np.eye(2, dtype=np.float32)
    >>> cosine(vectors, vectors).rows(slice(0, 1)).tolist()
    [[0.0, 1.0]]
    """
    _check_vectors(query, "query")
    _check_vectors(gallery, "gallery")
    dim = query.shape[1]
    if gallery.shape[1] != dim:
        raise UsageError(
            f"query embeddings have {dim} dimensions, the gallery's {gallery.shape[1]}: "
            "encode both with the same model"
        )
    step = max(1, block // dim)

    def rows(part: slice) -> Matrix:
        ours = query[part].astype(np.float64)
        out = np.empty((len(ours), len(gallery)), np.float32)
        for first in range(0, len(gallery), step):
            columns = slice(first, first + step)
            out[:, columns] = ours @ gallery[columns].astype(np.float64).T
        return np.subtract(1, out, out=out)

    return Distances("cosine", len(query), len(gallery), rows)


def hamming(query: ByteArray, gallery: ByteArray, n_bits: int) -> Distances:
    """Return the number of different bits of packed codes ``[q, B]`` and ``[n, B]``.

    Raises:
        UsageError: The codes are not uint8 ``[n, ceil(n_bits / 8)]`` with zero padding.

    >>> codes = np.array([[0], [7]], np.uint8)
    >>> hamming(codes, codes, 3).rows(slice(0, 2)).tolist()
    [[0, 3], [3, 0]]
    """
    ours, theirs = _words(query, n_bits, "query"), _words(gallery, n_bits, "gallery")
    kind = np.uint8 if n_bits <= 255 else np.uint16 if n_bits <= 65_535 else np.uint32

    def rows(part: slice) -> Matrix:
        mine = ours[part]
        out = np.zeros((len(mine), len(theirs)), kind)
        for word in range(theirs.shape[1]):
            out += np.bitwise_count(mine[:, word, None] ^ theirs[None, :, word])
        return out

    return Distances("hamming", len(query), len(gallery), rows)


class LabeledCodes(Protocol):
    """Label codes beside hash codes, as ``landcue.codes.cue.CueCodes`` holds them."""

    @property
    def label(self) -> ByteArray:
        """Packed uint8 ``[n, ceil(n_label_bits / 8)]``."""
        ...

    @property
    def hash(self) -> ByteArray:
        """Packed uint8 ``[n, ceil(n_hash_bits / 8)]``."""
        ...

    @property
    def n_label_bits(self) -> int:
        """Bits of a label code; may be 0."""
        ...

    @property
    def n_hash_bits(self) -> int:
        """Bits of a hash code; may be 0."""
        ...


def cue(query: LabeledCodes, gallery: LabeledCodes, weight: int) -> Distances:
    """Return ``weight * Hamming(label codes) + Hamming(hash codes)``.

    Raises:
        UsageError: The codes differ in bits, the weight is not a whole number of 0 or more, or
            it leaves no bit to compare.

    >>> from landcue.codes import CueCodes, pack_bits
    >>> codes = CueCodes(pack_bits([[1, 0], [0, 1]]), pack_bits([[1, 1], [1, 0]]), 2, 2)
    >>> cue(codes, codes, weight=4).rows(slice(0, 1)).tolist()
    [[0, 9]]
    """
    ours, theirs = ((c.n_label_bits, c.n_hash_bits) for c in (query, gallery))
    if ours != theirs:
        raise UsageError(
            f"query codes have {ours[0]} label bits and {ours[1]} hash bits, the gallery's "
            f"{theirs[0]} and {theirs[1]}: encode both with the same model and codebook"
        )
    n_label_bits, n_hash_bits = ours
    weight = _whole(weight)
    farthest = weight * n_label_bits + n_hash_bits
    if not 0 < farthest < 2**31:
        raise UsageError(
            f"a label weight of {weight} with {n_hash_bits} + {n_label_bits} bits gives distances "
            f"up to {farthest}: they must reach at least 1 and stay below 2**31"
        )
    parts: list[tuple[int, Distances]] = []
    if weight and n_label_bits:
        parts.append((weight, hamming(query.label, gallery.label, n_label_bits)))
    if n_hash_bits:
        parts.append((1, hamming(query.hash, gallery.hash, n_hash_bits)))
    kind = np.uint16 if farthest <= 65_535 else np.uint32
    first = parts[0][1]

    def rows(part: slice) -> Matrix:
        out = np.zeros((len(range(first.n_query)[part]), first.n_gallery), kind)
        for times, distances in parts:
            out += kind(times) * distances.rows(part)
        return out

    return Distances("cue", first.n_query, first.n_gallery, rows)


def given(matrix: Matrix) -> Distances:
    """Use a distance matrix ``[q, n]``: float, or whole numbers of 0 and more.

    Raises:
        UsageError: It is not a matrix.

    >>> given(np.array([[0.5, 0.1]])).n_gallery
    2
    """
    if matrix.ndim != 2:
        raise UsageError(f"distances have shape {list(matrix.shape)}: pass [queries, gallery]")
    return Distances("given", matrix.shape[0], matrix.shape[1], lambda part: matrix[part])


def _whole(weight: object) -> int:
    if isinstance(weight, bool) or not isinstance(weight, int | np.integer) or weight < 0:
        raise UsageError(f"the label weight is {weight!r}: pass a whole number, 0 or more")
    return int(weight)


def _check_vectors(vectors: FloatArray, name: str) -> None:
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or vectors.shape[1] == 0:
        raise UsageError(
            f"{name} embeddings are {vectors.dtype} {list(vectors.shape)}: "
            "pass floats [n, dimensions]"
        )
    step = max(1, _VALUES_AT_ONCE // vectors.shape[1])
    for first in range(0, len(vectors), step):
        part = vectors[first : first + step].astype(np.float64)
        norms = np.sqrt(np.einsum("nd,nd->n", part, part))
        broken = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))
        if broken.size:
            row, norm = first + int(broken[0]), float(norms[broken[0]])
            if np.isfinite(norm):
                raise UsageError(
                    f"row {row} of the {name} embeddings has norm {norm:.4g}: "
                    "divide every vector by its norm"
                )
            raise UsageError(
                f"row {row} of the {name} embeddings is not finite: check the model that made it"
            )


def _words(code: ByteArray, n_bits: int, name: str) -> npt.NDArray[np.uint64]:
    width = (n_bits + 7) // 8
    if n_bits < 1 or code.dtype != np.uint8 or code.ndim != 2 or code.shape[1] != width:
        raise UsageError(
            f"{name} codes are {code.dtype} {list(code.shape)}: {n_bits} bits need packed uint8 "
            f"[n, {width}]"
        )
    if n_bits % 8 and np.any(code[:, -1] >> (n_bits % 8)):
        raise UsageError(f"{name} codes have bits set past bit {n_bits - 1}: pass their n_bits")
    words = np.zeros((len(code), (width + 7) // 8 * 8), np.uint8)
    words[:, :width] = code
    return words.view(np.uint64)
