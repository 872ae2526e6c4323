"""A collection as a search backend: the same modes, filters, pages and answers as of a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.manifest import Manifest
from landcue.archive.schema import LABEL_THRESHOLD
from landcue.errors import UsageError
from landcue.milvus.archive import MilvusArchive
from landcue.milvus.expressions import carries
from landcue.milvus.ranking import MilvusSelection
from landcue.milvus.records import CollectionRecords, RecordCache, Rows
from landcue.search.ann import AnnFacts
from landcue.search.backend import Facts
from landcue.search.filters import Filter
from landcue.search.records import Records
from landcue.search.summary import Summary
from landcue.search.vectors import Vectors


class MilvusView:
    """A collection as one search sees it: rows are numbered in the order in which it met them.

    Attributes:
        records: The records that the search asks for.
    """

    def __init__(self, cache: RecordCache) -> None:
        self._cache = cache
        self.records = CollectionRecords(cache)

    @property
    def manifest(self) -> Manifest:
        """Of the archive that was pushed."""
        return self._cache.pushed.manifest

    @property
    def mark(self) -> str:
        """A word for the content; a cursor belongs to one mark."""
        return self._cache.pushed.mark

    def ann_facts(self) -> AnnFacts | None:
        """Return the measurements of the approximate index, if there is one."""
        return self._cache.pushed.ann

    def read_vectors(self, kind: str, rows: Rows) -> npt.NDArray[Any]:
        """Return ``embedding`` (float32), ``code`` or ``cue`` (packed uint8) of ``[m]`` rows."""
        return self._cache.vectors(kind, rows.tolist())

    def read_facts(self, rows: Rows) -> Callable[[], list[Facts]]:
        """Read the facts of ``[m]`` rows now: a later push may change them."""
        facts = self._cache.records(rows).facts(np.arange(len(rows)))
        return lambda: facts

    def select(self, where: Filter | None) -> MilvusSelection:
        """Apply a filter; ``None`` lets all records through."""
        return MilvusSelection(self._cache, where)


class MilvusBackend:
    """A collection as it is now.

    Attributes:
        archive: The collection, opened.
    """

    def __init__(self, archive: MilvusArchive) -> None:
        """Take an opened collection."""
        self.archive = archive

    @property
    def mark(self) -> str:
        """A word for the content as last seen; a cursor belongs to one mark."""
        return self.archive.pushed.mark

    @property
    def records(self) -> Records:
        """Refuse: a collection may be too large.

        Raises:
            UsageError: Always.
        """
        raise _too_large()

    @property
    def vectors(self) -> Vectors:
        """Refuse: a collection may be too large.

        Raises:
            UsageError: Always.
        """
        raise _too_large()

    def view(self) -> MilvusView:
        """Return the collection as a search sees it that starts now.

        Raises:
            ArchiveError: The server cannot be reached, or the collection is being pushed.
        """
        self.archive.follow()
        return MilvusView(self._cache())

    def ann_facts(self) -> AnnFacts | None:
        """Return the measurements of the approximate index, if there is one."""
        return self.archive.pushed.ann

    def build_ann(self) -> AnnFacts:
        """Refuse: the index of a collection is chosen when it is pushed.

        Raises:
            UsageError: Always.
        """
        raise UsageError("the index of a collection is chosen with 'landcue archive push --index'")

    def summary(self) -> Summary:
        """Return the summary that was stored when the collection was pushed."""
        return self.archive.pushed.summary

    def label_counts(self) -> list[dict[str, Any]]:
        """Count the records of each label: annotated, predicted, and matched by a filter."""
        self.archive.follow()
        found, counts = self._cache(), list[dict[str, Any]]()
        scored = found.pushed.manifest.label_names
        for label in sorted(found.pushed.carried):
            where, predicted = carries(found.pushed.names.index(label)), 0
            if label in scored:
                least = f"scores[{scored.index(label)}] >= {LABEL_THRESHOLD}"
                predicted = found.count(least)
            annotated, records = found.count(f"known == true and {where}"), found.count(where)
            fact = {"name": label, "annotated": annotated, "predicted": predicted}
            counts.append({**fact, "records": records})
        return counts

    def _cache(self) -> RecordCache:
        return RecordCache(self.archive.link, self.archive.pushed)


def _too_large() -> UsageError:
    return UsageError(
        "this operation reads every record, which a Milvus collection does not support: use the "
        "archive folder that was pushed"
    )
