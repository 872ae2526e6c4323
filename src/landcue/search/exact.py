"""Nearest embeddings by cosine distance: exact, and approximate with FAISS at a measured recall."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
_COMPILED_FROM = 1 << 24  # values; fewer take milliseconds and need no compiler
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
        compiled_from: int = _COMPILED_FROM,
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
        norms = self._check(queries)
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

        few = len(queries) <= _FEW_QUERIES
        step = 1 if few else max(1, self._limits["products_at_once"] // len(self))
        for first in range(0, len(queries), step):
            for q, rough in enumerate(self._rough(queries[first : first + step]), start=first):
                if mask is not None:
                    np.copyto(rough, np.inf, where=~mask)
                distances[q], rows[q] = self._nearest(rough, queries[q], norms[q], k, mask)
        return distances, rows

    def ranking(
        self, query: FloatArray, mask: npt.NDArray[np.bool_] | None = None
    ) -> Callable[[int], tuple[FloatArray, npt.NDArray[np.int64]]]:
        """Return a function of k that returns the k nearest embeddings of a query.

        Only its first call scans the index: it keeps a float32 for each embedding.

        Args:
            query: float32 ``[1, d]``.
            mask: As :meth:`search` takes it.

        Returns:
            The function; its distances and rows ``[k']`` are those of :meth:`search`.
        """
        (norm,) = self._check(query)
        n_allowed = check_mask(mask, len(self))
        if mask is not None and 8 * n_allowed < len(self):
            kept = np.flatnonzero(mask)
            among = FloatIndex(self._rows[kept], **self._limits).ranking(query)

            def nearest_kept(k: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
                distances, rows = among(k)
                return distances, kept[rows]

            return nearest_kept

        @functools.cache
        def scan() -> FloatArray:
            (rough,) = self._rough(query)
            if mask is not None:
                np.copyto(rough, np.inf, where=~mask)
            return rough

        def nearest(k: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
            k = min(check_k(k), n_allowed)
            if not k:
                return np.empty(0, np.float32), np.empty(0, np.int64)
            if 2 * k > n_allowed:  # nearly all: nothing to choose among
                every = np.arange(len(self)) if mask is None else np.flatnonzero(mask)
                return self._rank(query[0], every, k)
            return self._nearest(scan(), query[0], norm, k, mask)

        return nearest

    def _check(self, queries: FloatArray) -> npt.NDArray[np.float64]:
        norms = _norms(queries, "queries")
        if queries.shape[1] != self.dim:
            raise UsageError(
                f"queries have {queries.shape[1]} dimensions, the embeddings {self.dim}: "
                "encode both with the same model"
            )
        return norms

    def _nearest(
        self,
        rough: FloatArray,
        query: FloatArray,
        norm: float,
        k: int,
        mask: npt.NDArray[np.bool_] | None,
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        limit = reach(rough, k) + 2 * self._error(norm)
        candidates = np.flatnonzero(rough <= np.float32(limit))
        if mask is not None:  # a limit of infinity would admit masked rows
            candidates = candidates[mask[candidates]]
        return self._rank(query, candidates, k)

    def _rank(
        self, query: FloatArray, candidates: npt.NDArray[np.int64], k: int
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        return rank(self._rows, query, candidates, k, compiled_from=self._limits["compiled_from"])

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
    embeddings: FloatArray,
    query: FloatArray,
    candidates: npt.NDArray[np.int64],
    k: int,
    *,
    compiled_from: int = _COMPILED_FROM,
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Sort some rows by their exact distance; only their embeddings are read.

    Args:
        embeddings: float32 ``[n, d]``, which may be mapped from disk.
        query: float32 ``[d]``.
        candidates: Ascending rows ``[m]``.
        k: Most rows to return.
        compiled_from: As for :func:`distances_of`.

    Returns:
        Distances float32 and rows int64 ``[min(k, m)]``, ordered by (distance, row).
    """
    distances = distances_of(embeddings, query, candidates, compiled_from=compiled_from)
    order = smallest(distances, k)
    return distances[order], candidates[order]


def distances_of(
    embeddings: FloatArray,
    query: FloatArray,
    rows: npt.NDArray[np.int64],
    *,
    compiled_from: int = _COMPILED_FROM,
) -> FloatArray:
    """Return the exact distances float32 ``[m]`` of some rows, as :func:`rank` does.

    From ``compiled_from`` values on (m times d) compiled code computes the same bits.
    """
    wide = query.astype(np.float64)
    distances = np.empty(rows.size, np.float32)
    compiled = load_compiled("auto") if rows.size * wide.size >= compiled_from else None
    if compiled is not None:
        edges, joins = _blocks(wide.size)
        scan, n_parts = compiled.pairwise_distances(), -(-rows.size // _ROWS_AT_ONCE)
        vectors, picked = frozen(embeddings), np.ascontiguousarray(rows, np.int64)

        def run(part: int) -> None:
            start, stop = part * _ROWS_AT_ONCE, min((part + 1) * _ROWS_AT_ONCE, rows.size)
            scan(vectors, picked, start, stop, wide, edges, joins, distances)

        for_each(run, n_parts, check_threads(None))
        return distances
    for first in range(0, rows.size, _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        # Summed along each row on its own: unlike a matrix product, the same for equal rows.
        distances[part] = 1 - (embeddings.take(rows[part], axis=0) * wide).sum(axis=1)
    return distances


@functools.cache
def _blocks(dim: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return edges and joins of the blocks in which NumPy sums ``dim`` values pairwise."""
    edges, joins = [0], list[int]()

    def split(first: int, n: int) -> None:
        if n <= 128:
            edges.append(first + n)
            joins.append(0)
            return
        half = n // 2 - n // 2 % 8
        split(first, half)
        split(first + half, n - half)
        joins[-1] += 1

    split(0, dim)
    return np.array(edges, np.int64), np.array(joins, np.int64)


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


MEASURED_K = 20
MEASURED_QUERIES = 256
SHORTLIST = 200

_SEED = 0
_MOST_LISTS = 65_536
_TRAINED_PER_LIST = 64


@dataclass(frozen=True, slots=True)
class AnnFacts:
    """The parameters and measured recall of an index.

    Attributes:
        kind: FAISS factory string, such as ``IVF1024,SQ8``.
        k: Recall is measured for the k nearest.
        shortlist: Candidates that were ranked by exact distance.
        queries: Rows of the query records, each excluded from its own hits and from training.
        recall: Share of the true k nearest found, by the number of lists visited.
    """

    kind: str
    k: int
    shortlist: int
    queries: tuple[int, ...]
    recall: dict[int, float]

    def lists_for(self, recall: float) -> int | None:
        """Return the fewest lists to visit that reach a recall, or ``None``."""
        return min((n for n, found in self.recall.items() if found >= recall), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        recall = {str(n): found for n, found in self.recall.items()}
        return {**asdict(self), "queries": list(self.queries), "recall": recall}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> AnnFacts:
        """Parse the result of :meth:`to_json`."""
        recall = {int(n): float(found) for n, found in value["recall"].items()}
        queries = tuple(int(row) for row in value["queries"])
        return cls(str(value["kind"]), int(value["k"]), int(value["shortlist"]), queries, recall)


class AnnIndex:
    """An index in memory. Several threads may search it."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @property
    def lists(self) -> int:
        """Number of inverted lists."""
        return int(self._index.nlist)

    @classmethod
    def build(cls, embeddings: FloatArray, queries: npt.NDArray[np.int64]) -> AnnIndex:
        """Train on a sample without the rows ``queries``, then add all rows."""
        faiss = load_faiss()
        n, dim = embeddings.shape
        others = np.setdiff1d(np.arange(n), queries)
        others = others if others.size else np.arange(n)
        lists = min(list_count(n), others.size)
        most = min(others.size, _TRAINED_PER_LIST * lists)
        chosen = np.random.default_rng(_SEED).choice(others, most, replace=False)
        quantizer = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.min_points_per_centroid = 1  # or it prints a warning
        index.cp.seed = _SEED + 1
        index.train(np.ascontiguousarray(embeddings[np.sort(chosen)]))
        for first in range(0, n, _ROWS_AT_ONCE):
            index.add(np.ascontiguousarray(embeddings[first : first + _ROWS_AT_ONCE]))
        return cls(index)

    @classmethod
    def load(cls, path: Path) -> AnnIndex:
        """Read an index that :meth:`save` wrote.

        Raises:
            UsageError: FAISS is not installed.
        """
        return cls(load_faiss().read_index(str(path)))

    def save(self, path: Path) -> None:
        """Write the index."""
        try:
            load_faiss().write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"cannot write {path}: {error}") from None

    def candidates(
        self, query: FloatArray, n: int, lists: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64]:
        """Return up to ``n`` rows near a query float32 ``[1, d]``, in no order.

        Args:
            query: Of unit norm.
            n: Most rows to return.
            lists: Number of lists to visit.
            mask: bool ``[rows]``, true for the allowed rows; all rows if ``None``.
        """
        faiss = load_faiss()
        options: dict[str, Any] = {"nprobe": lists}
        if mask is not None:
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        parameters = faiss.SearchParametersIVF(**options)
        # Libraries that import faiss.contrib.torch_utils replace search by one without params.
        search = getattr(self._index, "search_numpy", self._index.search)
        _, found = search(np.ascontiguousarray(query), n, params=parameters)
        return found[0][found[0] >= 0]


def list_count(n: int) -> int:
    """Return the lists of an index for n rows: about the square root, a power of two."""
    return int(min(_MOST_LISTS, 2 ** round(math.log2(max(1.0, math.sqrt(n))))))


def held_out(n: int) -> npt.NDArray[np.int64]:
    """Return the rows that measure an index of ``n`` rows: a seeded sample, ascending."""
    size = min(MEASURED_QUERIES, max(1, n // 2), n)
    return np.sort(np.random.default_rng(_SEED).choice(n, size, replace=False))


def measure(
    embeddings: FloatArray,
    index: AnnIndex,
    queries: npt.NDArray[np.int64],
    k: int = MEASURED_K,
    shortlist: int = SHORTLIST,
) -> AnnFacts:
    """Measure the recall of an index with :func:`recall_by_lists`."""

    def candidates(lists: int) -> Iterator[npt.NDArray[np.int64]]:
        for query in queries.tolist():
            yield index.candidates(embeddings[[query]], shortlist + 1, lists)

    recall = recall_by_lists(embeddings, queries, k, index.lists, candidates)
    kind = f"IVF{index.lists},SQ8"
    return AnnFacts(kind, k, shortlist, tuple(queries.tolist()), recall)


def recall_by_lists(
    embeddings: FloatArray,
    queries: npt.NDArray[np.int64],
    k: int,
    most: int,
    candidates: Callable[[int], Iterable[npt.NDArray[np.int64]]],
) -> dict[int, float]:
    """Measure recall for 1, 2, 4, … visited lists, up to an eighth of all, or until it is 1.

    A hit counts if it is not farther than the true k-th, so ties do not lower the recall.

    Args:
        embeddings: float32 ``[n, d]``.
        queries: Query rows, each excluded from its own hits.
        k: Recall is measured for the k nearest.
        most: Number of all lists.
        candidates: Returns the candidate rows of each query for a number of visited lists.
    """
    distances, rows = FloatIndex(embeddings).search(embeddings[queries], k + 1)
    exact = [
        one[others][:k] for one, others in zip(distances, rows != queries[:, None], strict=True)
    ]
    recall: dict[int, float] = {}
    lists = 1
    while lists <= max(1, most // 8) and recall.get(lists // 2, 0.0) < 1:
        found = 0
        for query, true, some in zip(queries.tolist(), exact, candidates(lists), strict=True):
            rows = np.sort(some)
            distances, _ = rank(embeddings, embeddings[query], rows[rows != query], k)
            found += int(np.count_nonzero(distances <= true[-1])) if true.size else 0
        recall[lists] = found / max(1, sum(true.size for true in exact))
        lists *= 2
    return recall


@functools.cache
def load_faiss() -> Any:
    """Return the faiss module."""
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise UsageError(
            "mode ann needs FAISS: run pip install 'landcue[ann]', or search with mode auto"
        ) from None
