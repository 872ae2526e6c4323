"""An archive folder as a search backend: the rankings of its modes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import Manifest
from landcue.codes.cue import CueCodes
from landcue.codes.engine import smallest
from landcue.search.backend import Facts, Ranking, Target
from landcue.search.exact import AnnFacts
from landcue.search.filters import Filter
from landcue.search.fusion import Fusion
from landcue.search.indexes import Indexes
from landcue.search.pages import Distances, Rows
from landcue.search.place import HALFWAY_KM, center, kilometers
from landcue.search.records import Records, Summary, read_records, summarize
from landcue.search.store import Store
from landcue.search.typical import FAMILIES, Typical, measure_typical
from landcue.search.vectors import OwnEmbeddings, Vectors
from landcue.types import Bounds, Encoding

Mask = npt.NDArray[np.bool_]


class LocalSelection:
    """The records of a folder that a filter lets through, and their rankings.

    Attributes:
        allowed: Number of records.
    """

    def __init__(
        self,
        indexes: Indexes,
        records: Records,
        where: Filter | None,
        mask: Mask | None,
        allowed: int,
    ) -> None:
        """Take a filter, and what it lets through: bool ``[n]``, or ``None`` for all."""
        self.allowed = allowed
        self._indexes, self._records = indexes, records
        self._where, self._mask = where, mask

    def why_empty(self) -> str:
        return (self._where or Filter()).why_empty(self._records, self._indexes.vectors)

    def by_embedding(self, target: Target) -> Ranking:
        nearest = self._indexes.floats().ranking(target.embedding, self._mask)

        def fetch(k: int) -> tuple[Distances, Rows]:
            asked = k
            while True:
                distances, rows = nearest(asked)
                # Rounding puts equal embeddings slightly below 0: clip, so that they tie.
                if len(rows) < asked or distances[-1] > 0:
                    rows[: np.searchsorted(distances, 0, "right")].sort()
                    return np.maximum(distances[:k].astype(np.float64), 0.0), rows[:k]
                asked *= 2

        return Ranking(fetch, 1.0, self.allowed)

    def by_code(
        self, mode: str, targets: Sequence[Target], weight: int, first: int = 0
    ) -> list[Ranking]:
        """Rank for several targets: one scan returns the ``first`` records of each.

        Mode ``code`` ranks by exact Hamming distance, mode ``cue`` by
        ``weight * Hamming(predicted labels) + Hamming(codes)``.
        """
        worst = float(self._indexes.manifest.n_bits)
        if mode == "cue":
            worst += weight * len(self._indexes.manifest.label_names)
        scan = functools.partial(self._scan, mode, weight=weight)
        known = scan(_stacked(targets), first) if first and targets else None

        def fetch(number: int, k: int) -> tuple[Distances, Rows]:
            if known is None or k > first:
                distances, rows = scan(targets[number], k)
                return distances[0].astype(np.float64), rows[0]
            distances, rows = known
            return distances[number, :k].astype(np.float64), rows[number, :k]

        return [
            Ranking(functools.partial(fetch, number), worst, self.allowed)
            for number in range(len(targets))
        ]

    def by_sketch(self, target: Target) -> Ranking:
        def fetch(k: int) -> tuple[Distances, Rows]:
            return _unranked(self._indexes.sketches.candidates(target.embedding, k, self._mask))

        return Ranking(fetch, 1.0, self.allowed)

    def by_ann(self, target: Target, wanted: int, recall: float, lists: int | None) -> Ranking:
        """Find candidates in the approximate index.

        The fewest lists that reach ``recall`` are visited, or as many as were measured, and more
        where those hold fewer candidates than wanted.
        """
        index, facts = self._indexes.ann_index()
        mask, allowed = self._mask, self.allowed
        if lists is None:
            lists = facts.lists_for(recall) or max(facts.recall)
        known = facts.recall.get(lists) if mask is None else None
        while True:
            lists = min(lists, index.lists)
            rows = index.candidates(target.embedding, wanted, lists, mask)
            if len(rows) >= min(wanted, allowed) or lists == index.lists:
                break
            lists *= 2
        scanned = round(allowed * lists / index.lists)
        return Ranking(lambda k: _unranked(rows[:k]), 1.0, scanned, recall=known, lists=lists)

    def by_fused(self, target: Target, weight: float) -> Ranking:
        query = np.concatenate([target.embedding, weight * target.scores], axis=1)

        def fetch(k: int) -> tuple[Distances, Rows]:
            if k >= self.allowed:  # all: nothing to choose among
                n = len(self._records)
                return _unranked(np.arange(n) if self._mask is None else np.flatnonzero(self._mask))
            _, rows = self._indexes.fused().search(query.astype(np.float32), k, self._mask)
            return _unranked(rows[0])

        return Ranking(fetch, 1.0, self.allowed)

    def by_fused_code(self, target: Target, weight: float) -> Ranking:
        codes = self._indexes.fused_codes()
        worst = 1.0 + weight * float(np.log1p(target.scores.astype(np.float64)).sum())
        scores = codes.scores(target.embedding, target.scores, weight)[0]
        every = np.ones(len(scores), np.bool_)
        return _listed(
            np.maximum(worst - scores, 0.0), every if self._mask is None else self._mask, worst
        )

    def by_regions(self, target: Target) -> Ranking:
        index = self._indexes.regions()
        query = index.query(target.embedding, self._mask)

        def fetch(k: int) -> tuple[Distances, Rows]:
            return index.search(query, k, self._mask)

        nearest = functools.partial(index.nearest_regions, query)
        return Ranking(fetch, 1.0, self.allowed, regions=nearest)

    def by_place(self, box: Bounds) -> Ranking:
        away = kilometers(self._records.bounds, center(box))
        known = ~np.isnan(away)
        return _listed(away, known if self._mask is None else known & self._mask, float(HALFWAY_KM))

    def by_id(self) -> Ranking:
        n = len(self._records)
        return _listed(np.zeros(n), np.ones(n, np.bool_) if self._mask is None else self._mask, 1.0)

    def _scan(
        self, mode: str, target: Target, k: int, weight: int
    ) -> tuple[npt.NDArray[np.int32], Rows]:
        """Return distances and rows ``[q, k]`` of a target, or of several stacked."""
        if mode == "code":
            return self._indexes.codes().search(target.code, k, self._mask)
        n_labels, n_bits = len(self._indexes.manifest.label_names), self._indexes.manifest.n_bits
        code = target.code if n_bits else np.empty((len(target.cue), 0), np.uint8)
        query = CueCodes(target.cue, code, n_labels, n_bits)
        return self._indexes.cues().search(query, k, self._mask, weight=weight)


def _listed(distances: Distances, mask: Mask, worst: float) -> Ranking:
    allowed = np.flatnonzero(mask)
    kept = distances[allowed]

    def fetch(k: int) -> tuple[Distances, Rows]:
        order = smallest(kept, k) if len(kept) else np.empty(0, np.int64)
        return kept[order], allowed[order]

    return Ranking(fetch, worst, len(allowed))


def _unranked(rows: Rows) -> tuple[Distances, Rows]:
    return np.zeros(len(rows)), rows


def _stacked(targets: Sequence[Target]) -> Target:
    """Stack several targets into one; labels and own records are left out."""
    embedding = np.concatenate([target.embedding for target in targets])
    code = np.concatenate([target.code for target in targets])
    cue = np.concatenate([target.cue for target in targets])
    return Target(embedding, code, cue)


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
        archive.lookup = self.records
        self.vectors = Vectors(archive, store)
        # What was measured is small, and kept on disk for archives of all sizes.
        kept = store if on_disk else Store(archive, on_disk=cache is not False and count > 0)
        self.indexes = Indexes(archive.manifest, self.records, self.vectors, kept)
        self._typical: dict[str, Typical] = {}
        self._measuring = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        return self.archive.manifest

    @property
    def mark(self) -> str:
        return self.vectors.store.folder.name

    @property
    def remote(self) -> bool:
        return False

    def view(self) -> LocalBackend:
        """Return itself: what was opened does not change."""
        return self

    def select(self, where: Filter | None) -> LocalSelection:
        mask, allowed = None, len(self.records)
        if where is not None and not where.empty:
            mask = where.mask(self.records, self.vectors)
            allowed = int(np.count_nonzero(mask))
        return LocalSelection(self.indexes, self.records, where, mask, allowed)

    def fusion(self) -> Fusion | None:
        return self.indexes.fusion()

    def measure_fusion(self) -> Fusion:
        return self.indexes.measure_fusion()

    @property
    def own_embeddings(self) -> OwnEmbeddings:
        """The embeddings before they were fitted to the archive."""
        return OwnEmbeddings(self.vectors.embedding, self.archive.space)

    def read_vectors(self, kind: str, rows: Rows) -> npt.NDArray[Any]:
        return getattr(self.vectors, kind)[rows]

    def read_facts(self, rows: Rows) -> Callable[[], list[Facts]]:
        return functools.partial(self.records.facts, rows)

    def ann_facts(self) -> AnnFacts | None:
        return self.indexes.ann_facts()

    def build_ann(self) -> AnnFacts:
        return self.indexes.ann_index()[1]

    def typical(self, mode: str, texts: Encoding | None = None) -> Typical | None:
        family = FAMILIES.get(mode)
        if family is None or len(self.records) < 2 or (texts and family == "cue"):
            return None
        name = f"typical-{family}" if texts is None else f"typical-{family}-of-texts"
        with self._measuring:
            if name not in self._typical:
                measure = functools.partial(measure_typical, self, family, texts)
                table = self.indexes.measured.table(name, measure)
                known = Typical.from_table(table, self, family, texts=texts is not None)
                self._typical[name] = known
        return self._typical[name]

    def neighbors(self, family: str, rows: Rows, k: int) -> tuple[Distances, Rows]:
        """Return distances and rows ``[m, k']`` of the nearest other records of some rows.

        Args:
            family: ``embedding``, ``code`` or ``cue`` (with label weight 1).
            rows: int64 ``[m]``.
            k: Neighbors of each; k' = k, or the number of other records if that is less.
        """
        asked = min(k + 1, len(self.records))
        if family == "embedding":
            distances, found = self.indexes.floats().search(self.vectors.embedding[rows], asked)
        elif family == "code":
            distances, found = self.indexes.codes().search(self.vectors.code[rows], asked)
        else:
            query = self.vectors.cue_codes(rows)
            distances, found = self.indexes.cues().search(query, asked, weight=1)
        # Its own row, or else the last one: that is another of many equal ones.
        own = found == rows[:, None]
        own[~own.any(axis=1), -1] = True
        shape = len(rows), asked - 1
        near = np.maximum(distances[~own].astype(np.float64), 0.0)
        return near.reshape(shape), found[~own].reshape(shape)

    def summary(self) -> Summary:
        return summarize(self.records)

    def label_counts(self) -> list[dict[str, Any]]:
        return self.records.label_counts()
