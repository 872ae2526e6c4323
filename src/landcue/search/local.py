"""An archive folder as a search backend: records and vectors in memory or mapped from files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import Manifest
from landcue.search.ann import AnnFacts
from landcue.search.backend import Facts
from landcue.search.filters import Filter
from landcue.search.modes import Indexes, LocalSelection
from landcue.search.pages import Rows
from landcue.search.records import Records, read_records
from landcue.search.store import Store
from landcue.search.summary import Summary, summarize
from landcue.search.vectors import Vectors

CACHE_FROM = 20_000
"""From this number of records, derived files are kept on disk."""


class LocalBackend:
    """An archive folder as it was when it was opened: also its own, only view.

    Attributes:
        archive: The storage.
        records: Its records without their vectors; row r is the r-th id.
        vectors: Their vectors, read when a mode first needs them.
        indexes: What the modes search in, made when first needed.
    """

    def __init__(self, archive: ArchiveFolder, *, cache: bool | None = None) -> None:
        """Read the records, or map the file derived from them.

        Args:
            archive: The storage.
            cache: Keep derived files below ``indexes/`` in the archive; by default from
                :data:`CACHE_FROM` records on. Where that cannot be written they stay in memory.

        Raises:
            ArchiveError: The archive is broken.
        """
        self.archive, count = archive, archive.count
        large = count >= CACHE_FROM or archive.remote  # nothing is fetched twice
        on_disk = count > 0 and (large if cache is None else cache)
        store = Store(archive, on_disk=on_disk)
        self.records = Records(store.table("records", functools.partial(read_records, archive)))
        self.vectors = Vectors(archive, store)
        self.indexes = Indexes(archive.manifest, self.vectors)

    @property
    def manifest(self) -> Manifest:
        """Its model, dimensions and source."""
        return self.archive.manifest

    @property
    def mark(self) -> str:
        """A word for the version that was opened."""
        return self.vectors.store.folder.name

    def view(self) -> LocalBackend:
        """Return itself: what was opened does not change."""
        return self

    def select(self, where: Filter | None) -> LocalSelection:
        """Apply a filter; ``None`` lets all records through."""
        mask, allowed = None, len(self.records)
        if where is not None and not where.empty:
            mask = where.mask(self.records, self.vectors)
            allowed = int(np.count_nonzero(mask))
        return LocalSelection(self.indexes, self.records, where, mask, allowed)

    def read_vectors(self, kind: str, rows: Rows) -> npt.NDArray[Any]:
        """Return ``embedding`` (float32), ``code`` or ``cue`` (packed uint8) of ``[m]`` rows."""
        return getattr(self.vectors, kind)[rows]

    def read_facts(self, rows: Rows) -> Callable[[], list[Facts]]:
        """Return what reads the facts of ``[m]`` rows."""
        return functools.partial(self.records.facts, rows)

    def ann_facts(self) -> AnnFacts | None:
        """Return the measurements of the approximate index, if it was built."""
        return self.indexes.ann_facts()

    def build_ann(self) -> AnnFacts:
        """Load or build the approximate index.

        Raises:
            UsageError: FAISS is not installed.
        """
        return self.indexes.ann_index()[1]

    def summary(self) -> Summary:
        """Return counts of groups, sensors and parts, the span of times, and all bounds."""
        return summarize(self.records)

    def label_counts(self) -> list[dict[str, Any]]:
        """Return each label with its counts: ``annotated``, ``predicted``, matching ``records``."""
        return self.records.label_counts()
