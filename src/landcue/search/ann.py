"""Approximate nearest embeddings (FAISS IVF with 8-bit values), and their measured recall.

The index returns candidates; the searcher ranks those by their exact distances. Recall is measured
on the archive itself, with query records that the index was not trained on, and stored with it.
"""

from __future__ import annotations

import functools
import importlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.search.exact import FloatIndex, rank
from landcue.types import FloatArray

MEASURED_K = 20
MEASURED_QUERIES = 256
SHORTLIST = 200

_SEED = 0
_MOST_LISTS = 65_536
_TRAINED_PER_LIST = 64
_ROWS_AT_ONCE = 65_536


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
        self._lock = threading.Lock()

    @property
    def lists(self) -> int:
        """Number of inverted lists."""
        return int(self._index.nlist)

    @classmethod
    def build(cls, embeddings: FloatArray, queries: npt.NDArray[np.int64]) -> AnnIndex:
        """Train on a sample without the rows ``queries``, then add all rows.

        Raises:
            UsageError: FAISS is not installed.
        """
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
    """Return the faiss module.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise UsageError(
            "mode ann needs FAISS: run pip install 'landcue[ann]', or search with mode auto"
        ) from None
