"""Search a collection with the modes, filters, pages and results of an archive folder."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from landcue.errors import UsageError
from landcue.milvus.archive import MilvusArchive
from landcue.milvus.found import Found
from landcue.milvus.ranking import Rankings
from landcue.milvus.records import CollectionRecords, FoundRecords, FoundVectors, Unsupported
from landcue.milvus.selection import Selection
from landcue.search.filters import Filter
from landcue.search.plan import SearchOptions
from landcue.search.query import Query, QueryEncoder
from landcue.search.result import Result
from landcue.search.searcher import Searcher
from landcue.search.summary import Summary
from landcue.types import Encoder, FloatArray

_DEFAULT = SearchOptions()


class MilvusSearcher(Searcher):
    """Searches a collection in its current state. Several threads may use it.

    Attributes:
        archive: The collection.
        records: Its records, read on access.
        vectors: Their vectors, read on access.
    """

    def __init__(
        self, archive: MilvusArchive, encoder: Encoder | Callable[[], Encoder] | None = None
    ) -> None:
        """Search a collection; ``encoder`` is its archive's model, or a function that loads it."""
        self._collection = archive
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self._given = encoder
        self._root = self
        self._begin()
        self.records = cast("Any", CollectionRecords(self._found))
        self.vectors = cast("Any", Unsupported())

    def search(self, *args: Any, **options: Any) -> Result:
        """Return the k nearest records: see :meth:`landcue.search.searcher.Searcher.search`.

        Raises:
            ArchiveError: The server cannot be reached, or the collection is being pushed.
        """
        result = super(MilvusSearcher, self._one()).search(*args, **options)
        result.to_json()  # read all values now, before the collection can change
        return result

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 20,
        mode: str = "auto",
        options: SearchOptions = _DEFAULT,
    ) -> list[Result]:
        """Search for several queries, one after the other."""
        return [self.search(query, k, mode, None, options) for query in queries]

    def embed(self, query: Query) -> FloatArray:
        """Return the embedding of a query, float32 ``[1, d]``, unit norm."""
        return super(MilvusSearcher, self._one()).embed(query)

    def labels_of(self, id_: str) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if unknown or not annotated."""
        return super(MilvusSearcher, self._one()).labels_of(id_)

    def summary(self) -> Summary:
        """Return the summary of all records, stored when the collection was pushed."""
        return self._collection.pushed.summary

    def build_ann(self) -> dict[str, object]:
        """Raise a usage error: the index of a collection is chosen when it is pushed."""
        raise UsageError("the index of a collection is chosen with 'landcue archive push --index'")

    @property
    def mark(self) -> str:
        """Identifier of the searched state; a cursor is valid for one of them."""
        pushed = self._collection.pushed
        return f"{pushed.layout.name}-{pushed.revision}"

    def _one(self) -> MilvusSearcher:
        """Return a searcher for one search: row numbers are valid within one search."""
        self._collection.follow()
        one = copy.copy(self)
        one._begin()
        return one

    def _begin(self) -> None:
        """Drop the cached records of an earlier search."""
        pushed = self._collection.pushed
        self.archive, self._mark = self._collection, self.mark
        self._found = Found(self._collection.link, pushed)
        self.records = cast("Any", FoundRecords(self._found))
        self.vectors = cast("Any", FoundVectors(self._found))
        self._modes = cast("Any", Rankings(self._found))
        given = self._given
        load = None if given is None else functools.partial(self._root._load, given)
        manifest = pushed.manifest
        sizes = (manifest.dim, manifest.n_bits, manifest.label_names)
        self._query_encoder = QueryEncoder(self.records, self.vectors, sizes, load)

    def _select(self, where: Filter | None) -> tuple[Any, int]:
        selection = Selection(self._found, where)
        return selection, selection.allowed

    def _why_empty(self, where: Filter, mask: Any) -> str:
        return mask.why_empty()
