"""Search a collection as an archive folder is searched: the same modes, filters, pages, answers."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from landcue.errors import UsageError
from landcue.milvus.archive import MilvusArchive
from landcue.milvus.conditions import Conditions
from landcue.milvus.found import (
    CollectionRecords,
    CollectionVectors,
    Found,
    FoundRecords,
    FoundVectors,
)
from landcue.milvus.ranking import Rankings
from landcue.milvus.selection import Selection
from landcue.search.ann import AnnFacts
from landcue.search.filters import Filter
from landcue.search.modes import Ranking
from landcue.search.queries import Asker, Query, Target
from landcue.search.result import SearchResult
from landcue.search.searcher import Searcher
from landcue.types import Encoder, FloatArray


class MilvusSearcher(Searcher):
    """Searches a collection as it is now. Several threads may use it.

    Attributes:
        archive: What is searched.
        records: Its records, as far as a search asks for them.
        vectors: Their vectors, likewise.
    """

    def __init__(
        self, archive: MilvusArchive, encoder: Encoder | Callable[[], Encoder] | None = None
    ) -> None:
        """Take an opened collection, and the model of its archive or what loads it."""
        self._collection = archive
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self._given = encoder
        self._root = self
        self._begin()
        self.records = cast("Any", CollectionRecords(self._found))
        self.vectors = cast("Any", CollectionVectors(self._found))

    def search(self, *args: Any, **options: Any) -> SearchResult:
        """Return the k nearest records: see :meth:`landcue.search.searcher.Searcher.search`.

        Raises:
            ArchiveError: The server cannot be reached, or the collection is being pushed.
        """
        result = super(MilvusSearcher, self._one()).search(*args, **options)
        tuple(result.hits)  # read now, while the server has what was searched
        return result

    def search_many(
        self, queries: Sequence[Query], *args: Any, **options: Any
    ) -> list[SearchResult]:
        """Return for several queries what :meth:`search` returns for each, one after the other."""
        return [self.search(query, *args, **options) for query in queries]

    def embed(self, query: Query) -> FloatArray:
        """Return what a query is in the searched space, float32 ``[1, d]``, unit norm."""
        return super(MilvusSearcher, self._one()).embed(query)

    def labels_of(self, id_: str) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if unknown or not annotated."""
        return super(MilvusSearcher, self._one()).labels_of(id_)

    def build_ann(self) -> dict[str, object]:
        """Refuse: the index of a collection is chosen when it is pushed."""
        raise UsageError("the index of a collection is chosen with 'landcue archive push --index'")

    @property
    def mark(self) -> str:
        """A word for what is searched; a cursor belongs to one."""
        pushed = self._collection.pushed
        return f"{pushed.layout.name}-{pushed.revision}"

    def _one(self) -> MilvusSearcher:
        """Return a searcher for one search: rows are numbered anew in each."""
        self._collection.follow()
        one = copy.copy(self)
        one._begin()
        return one

    def _begin(self) -> None:
        self.archive = self._collection
        pushed = self._collection.pushed
        self._found = Found(self._collection.link, pushed)
        self._mark = self.mark
        self._selection: Selection | None = None
        self.records = cast("Any", FoundRecords(self._found))
        self.vectors = cast("Any", FoundVectors(self._found))
        self._modes = cast("Any", _Facts(pushed.ann))
        given = self._given
        load = None if given is None else functools.partial(self._root._load, given)
        manifest = pushed.manifest
        sizes = (manifest.dim, manifest.n_bits, manifest.label_names)
        self._asker = Asker(self.records, self.vectors, sizes, load)

    def _select(self, where: Filter | None) -> tuple[Any, int]:
        found = self._found
        if where is None or where.empty:
            self._selection = Selection.every(found)
        else:
            pushed = found.pushed
            names = (pushed.names, pushed.carried, pushed.manifest.label_names)
            self._selection = Selection.of(Conditions(where, *names), found)
        return self._selection, self._selection.allowed

    def _why_empty(self, where: Filter) -> str:
        return "" if self._selection is None else self._selection.why_empty(self._found)

    def _ranking(
        self,
        mode: str,
        target: Target | None,
        where: Filter | None,
        mask: Any,
        allowed: int,
        weight: int,
        shortlist: int,
        recall: float,
        lists: int | None,
    ) -> Ranking:
        rankings = Rankings(self._found, cast("Selection", mask))
        if target is None:
            box = None if where is None else where.place()
            return rankings.listing() if box is None else rankings.place(box)
        if mode == "code":
            return rankings.code(target)
        if mode == "cue":
            return rankings.cue(target, weight)
        if mode == "two-stage":
            return rankings.two_stage(target, shortlist)
        if mode == "ann":
            return rankings.ann(target, shortlist, recall, lists)
        return rankings.embedding(target)


class _Facts:
    """What is known of the approximate index."""

    def __init__(self, ann: AnnFacts | None) -> None:
        self._ann = ann

    def ann_facts(self) -> AnnFacts | None:
        return self._ann
