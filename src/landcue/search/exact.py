"""Exact nearest embeddings by cosine distance, in the order (distance, row)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landcue.codes.codefile import want_large_pages
from landcue.codes.engine import (
    check_k,
    check_mask,
    check_threads,
    for_each,
    frozen,
    load_compiled,
    reach,
    smallest,
)
from landcue.errors import UsageError
from landcue.types import FloatArray

_ROWS_AT_ONCE = 65_536
_FEW_QUERIES = 5  # up to here one pass per query is faster than one matrix product


class FloatIndex:
    """Embeddings, searched exactly.

    The distance is ``1 - dot``: the cosine distance of unit vectors. It is summed in float64
    and rounded to float32, so it depends only on the two vectors, and equal embeddings tie exactly.
    A sum in float32, in whatever order is fastest, only picks candidates: all rows within its
    error bound of the k-th place.
    """

    def __init__(
        self,
        embeddings: FloatArray,
        *,
        compiled_from: int = 1 << 24,
        values_per_part: int = 1 << 23,
        products_at_once: int = 1 << 26,
    ) -> None:
        """Hold float32 ``[n, d]`` embeddings, of unit norm for cosine distances.

        C-contiguous embeddings are shared, not copied: do not change them afterwards.
        The numbers below decide on time and memory only, never on an answer.

        Args:
            embeddings: float32 ``[n, d]``.
            compiled_from: Values (n times d) from which a single query is scanned by compiled
                code; smaller indexes answer in milliseconds and need no compiler.
            values_per_part: Values that one thread scans at a time.
            products_at_once: float32 products of many queries held at a time (256 MiB).

        Raises:
            UsageError: The embeddings are not float32 ``[n, d]`` or hold NaN or infinity.
        """
        want_large_pages(embeddings)
        norms = _norms(embeddings, "embeddings")
        self._rows = frozen(embeddings)
        self._norm = float(norms.max(initial=0.0))
        self._limits = dict(
            compiled_from=compiled_from,
            values_per_part=values_per_part,
            products_at_once=products_at_once,
        )

    def __len__(self) -> int:
        return int(self._rows.shape[0])

    @property
    def dim(self) -> int:
        """Length d of an embedding."""
        return int(self._rows.shape[1])

    def search(
        self, queries: FloatArray, k: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Return the k nearest embeddings of every query, ordered by (distance, row).

        Args:
            queries: float32 ``[q, d]``, of unit norm for cosine distances.
            k: Hits per query, at least 1.
            mask: bool ``[n]``, true for the allowed rows; all rows if ``None``.

        Returns:
            Distances float32 and rows int64, both ``[q, k']`` with k' = k, or the number of
            allowed rows if that is less.

        Raises:
            UsageError: The queries are not finite float32 ``[q, d]``, ``k`` is less than 1, or
                the mask is not one bool per embedding.
        """
        norms = _norms(queries, "queries")
        if queries.shape[1] != self.dim:
            raise UsageError(
                f"queries have {queries.shape[1]} dimensions, the embeddings {self.dim}: "
                "encode both with the same model"
            )
        n_allowed = check_mask(mask, len(self))
        k = min(check_k(k), n_allowed)
        distances = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        if not distances.size:
            return distances, rows
        if mask is not None and 8 * n_allowed < len(self):
            kept = np.flatnonzero(mask)
            distances, rows = FloatIndex(self._rows[kept], **self._limits).search(queries, k)
            return distances, kept[rows]

        hidden = None if mask is None else ~mask
        few = len(queries) <= _FEW_QUERIES
        step = 1 if few else max(1, self._limits["products_at_once"] // len(self))
        for first in range(0, len(queries), step):
            for q, rough in enumerate(self._rough(queries[first : first + step]), start=first):
                if hidden is not None:
                    np.copyto(rough, np.inf, where=hidden)
                limit = reach(rough, k) + 2 * self._error(norms[q])
                candidates = np.flatnonzero(rough <= np.float32(limit))
                if mask is not None:  # a limit of infinity would admit masked rows
                    candidates = candidates[mask[candidates]]
                distances[q], rows[q] = rank(self._rows, queries[q], candidates, k)
        return distances, rows

    def _rough(self, queries: FloatArray) -> FloatArray:
        """Return approximate distances minus 1, float32 ``[q, n]``."""
        large = len(queries) == 1 and self._rows.size >= self._limits["compiled_from"]
        compiled = load_compiled("auto") if large else None
        if compiled is None:
            return -queries @ self._rows.T
        rough, query, n = np.empty(len(self), np.float32), frozen(-queries[0]), len(self)
        n_parts = -(-self._rows.size // self._limits["values_per_part"])

        def run(part: int) -> None:
            start, stop = n * part // n_parts, n * (part + 1) // n_parts
            compiled.dots()(self._rows, start, stop, query, rough)

        for_each(run, n_parts, check_threads(None))
        return rough[None]

    def _error(self, norm: float) -> float:
        """Bound the error of a float32 dot product with a query of this norm, in any order.

        The classic bound is ``d * u / (1 - d * u)`` times the two norms, with u = 2 ** -24. The
        factor 2 and the spare terms cover the denominator and the rounding of the distance.
        """
        return 2.0**-23 * ((self.dim + 2) * (self._norm * norm) + 1)


def rank(
    embeddings: FloatArray, query: FloatArray, candidates: npt.NDArray[np.int64], k: int
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Sort some rows by their exact distance; only their embeddings are read.

    Args:
        embeddings: float32 ``[n, d]``, which may be mapped from disk.
        query: float32 ``[d]``.
        candidates: Ascending rows ``[m]``.
        k: Most rows to return.

    Returns:
        Distances float32 and rows int64 ``[min(k, m)]``, ordered by (distance, row).
    """
    distances = distances_of(embeddings, query, candidates)
    order = smallest(distances, k)
    return distances[order], candidates[order]


def distances_of(
    embeddings: FloatArray, query: FloatArray, rows: npt.NDArray[np.int64]
) -> FloatArray:
    """Return the exact distances float32 ``[m]`` of some rows, as :func:`rank` does."""
    wide = query.astype(np.float64)
    distances = np.empty(rows.size, np.float32)
    for first in range(0, rows.size, _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        # Summed along each row on its own: unlike a matrix product, the same for equal rows.
        distances[part] = 1 - (embeddings.take(rows[part], axis=0) * wide).sum(axis=1)
    return distances


def _norms(vectors: FloatArray, name: str) -> npt.NDArray[np.float64]:
    """Return the norms float64 ``[n]`` of checked float32 ``[n, d]`` vectors."""
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] == 0:
        raise UsageError(
            f"{name} are {vectors.dtype} {list(vectors.shape)}: use float32 [n, dimensions]"
        )
    norms = np.empty(len(vectors), np.float64)
    for first in range(0, len(vectors), _ROWS_AT_ONCE):
        part = vectors[first : first + _ROWS_AT_ONCE]
        norms[first : first + len(part)] = np.sqrt(np.einsum("nd,nd->n", part, part))
    broken = np.flatnonzero(~np.isfinite(norms))
    if broken.size:
        raise UsageError(
            f"row {int(broken[0])} of the {name} is not finite: check the model that made it"
        )
    return norms
