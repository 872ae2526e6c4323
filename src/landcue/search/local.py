"""An archive folder as a search backend: the rankings of its modes, and the indexes they share."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import Manifest
from landcue.codes.cue import CueCodes
from landcue.codes.cue_index import CueIndex
from landcue.codes.engine import smallest
from landcue.codes.hamming import CodeIndex
from landcue.codes.hashers import fit_decoder
from landcue.codes.regions import RegionIndex
from landcue.errors import ArchiveError
from landcue.search import store as files
from landcue.search.backend import Facts, Ranking, Target
from landcue.search.exact import (
    SHORTLIST,
    AnnFacts,
    AnnIndex,
    FloatIndex,
    distances_of,
    held_out,
    measure,
)
from landcue.search.filters import Filter
from landcue.search.fusion import Fusion, measure_fusion
from landcue.search.pages import Distances, Rows, others
from landcue.search.place import HALFWAY_KM, center, kilometers
from landcue.search.plan import check_mode
from landcue.search.records import Records, Summary, read_records, summarize
from landcue.search.rerank import FusedCodes
from landcue.search.store import Store
from landcue.search.typical import FAMILIES, Typical, measure_typical
from landcue.search.vectors import Sketches, Vectors
from landcue.types import Bounds, Encoding

Mask = npt.NDArray[np.bool_]

_ANN = "ann.faiss"
_FUSION = "fusion.txt"
_DECODED = 5_000  # records on which codes are decoded to embeddings


class Indexes:
    """What the modes of one archive search in, made when first needed; threads share it."""

    def __init__(
        self, manifest: Manifest, records: Records, vectors: Vectors, measured: Store
    ) -> None:
        self.manifest, self.vectors, self._records = manifest, vectors, records
        self.measured = measured
        self.sketches = Sketches(vectors, manifest.dim)
        self._lock = threading.RLock()
        self._floats: FloatIndex | None = None
        self._codes: CodeIndex | None = None
        self._cues: CueIndex | None = None
        self._ann: tuple[AnnIndex, AnnFacts] | None = None
        self._fused: FloatIndex | None = None
        self._fused_codes: FusedCodes | None = None
        self._regions: RegionIndex | None = None
        self._fusion: Fusion | None = None

    def floats(self) -> FloatIndex:
        """Return the index of embeddings."""
        with self._lock:
            if self._floats is None:
                self._floats = FloatIndex(self.vectors.embedding)
            return self._floats

    def codes(self) -> CodeIndex:
        """Return the index of hash codes."""
        with self._lock:
            if self._codes is None:
                self._codes = CodeIndex(self.vectors.code, self.manifest.n_bits)
            return self._codes

    def cues(self) -> CueIndex:
        """Return the index of labels and hash codes."""
        with self._lock:
            if self._cues is None:

                def write(path: Path) -> files.Facts:
                    CueIndex(self.vectors.cue_codes()).save(path)
                    return {}

                found = self.vectors.store.file("cue.index", write)
                with contextlib.suppress(ArchiveError):  # damaged: verify names it
                    self._cues = CueIndex.open(found[0]) if found else None
                if self._cues is None:
                    self._cues = CueIndex(self.vectors.cue_codes())
            return self._cues

    def regions(self) -> RegionIndex:
        """Return the index of the embeddings of regions."""
        with self._lock:
            if self._regions is None:
                self._regions = RegionIndex(self.vectors.regions, self.manifest.dim)
            return self._regions

    def fused(self) -> FloatIndex:
        """Return the index of embeddings, each followed by its label probabilities."""
        with self._lock:
            if self._fused is None:
                embedding, scores = self.vectors.embedding, self.vectors.scores

                def fill(out: npt.NDArray[np.float32]) -> None:
                    out[:, : embedding.shape[1]], out[:, embedding.shape[1] :] = embedding, scores

                shape = (len(embedding), embedding.shape[1] + scores.shape[1])
                joined = self.vectors.store.array("fused", np.float32, shape, fill)
                self._fused = FloatIndex(joined)
            return self._fused

    def fused_codes(self) -> FusedCodes:
        """Return the codes with quantized label probabilities, decoded as a sample of them is."""
        with self._lock:
            if self._fused_codes is None:
                vectors, n_bits = self.vectors, self.manifest.n_bits
                n = len(vectors.code)
                rng = np.random.default_rng(0)
                some = np.sort(rng.choice(n, min(n, _DECODED), replace=False))
                decoder = fit_decoder(vectors.code[some], vectors.embedding[some], n_bits)
                self._fused_codes = FusedCodes(vectors.code, vectors.scores, decoder)
            return self._fused_codes

    def fusion(self) -> Fusion | None:
        """Return the measured weight of labels, if it was measured."""
        with self._lock:
            if self._fusion is None:
                found = self.measured.existing(_FUSION)
                self._fusion = None if found is None else Fusion.from_json(found[1])
            return self._fusion

    def measure_fusion(self) -> Fusion:
        """Return the measured weight of labels; measure it if that was not done.

        Raises:
            UsageError: The model has no label head.
        """
        check_mode("fused", self.manifest)
        with self._lock:
            known = self.fusion()
            if known is not None:
                return known
            names = self.manifest.label_names
            made = self._fusion = measure_fusion(self._records, self.vectors, names)

            def write(path: Path) -> files.Facts:
                path.write_text(json.dumps(made.to_json()), encoding="utf-8")
                return made.to_json()

            self.measured.file(_FUSION, write)
            return made

    def ann_facts(self) -> AnnFacts | None:
        """Return the measurements of the approximate index, if it was built."""
        with self._lock:
            if self._ann is not None:
                return self._ann[1]
            found = self.vectors.store.existing(_ANN)
            return None if found is None else AnnFacts.from_json(found[1])

    def ann_index(self) -> tuple[AnnIndex, AnnFacts]:
        """Load the approximate index, or build and measure it.

        Raises:
            UsageError: FAISS is not installed.
        """
        with self._lock:
            if self._ann is None:
                made: list[tuple[AnnIndex, AnnFacts]] = []

                def make() -> tuple[AnnIndex, AnnFacts]:
                    embeddings = self.vectors.embedding
                    queries = held_out(len(embeddings))
                    index = AnnIndex.build(embeddings, queries)
                    made.append((index, measure(embeddings, index, queries, shortlist=SHORTLIST)))
                    return made[0]

                def write(path: Path) -> files.Facts:
                    index, facts = make()
                    index.save(path)
                    return facts.to_json()

                found = self.vectors.store.file(_ANN, write)
                if made or found is None:
                    self._ann = made[0] if made else make()
                else:
                    self._ann = AnnIndex.load(found[0]), AnnFacts.from_json(found[1])
            return self._ann


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
        """Return one line with the conditions and how many records each one allows by itself."""
        return (self._where or Filter()).why_empty(self._records, self._indexes.vectors)

    def by_embedding(self, target: Target) -> Ranking:
        """Rank by exact float distance."""
        index = self._indexes.floats()

        def fetch(k: int) -> tuple[Distances, Rows]:
            asked = k
            while True:
                distances, rows = (
                    found[0] for found in index.search(target.embedding, asked, self._mask)
                )
                # Rounding puts equal embeddings slightly below 0: clip, so that they tie.
                if len(rows) < asked or distances[-1] > 0:
                    return _ordered(distances, rows, k)
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

    def two_stage(self, target: Target, shortlist: int) -> Ranking:
        """Rank a shortlist by sketches by exact float distance, reading only its embeddings."""
        # The query records themselves are excluded and must not use up the shortlist.
        wanted = shortlist + len(target.own)
        rows = self._indexes.sketches.candidates(target.embedding, wanted, self._mask)
        found = rows[others(rows, target.own)][:shortlist]
        return self._reranked(target, found, Ranking(_nothing, 1.0, self.allowed))

    def by_ann(self, target: Target, shortlist: int, recall: float, lists: int | None) -> Ranking:
        """Rank the candidates of the approximate index by exact float distance.

        The fewest lists that reach ``recall`` are visited, or as many as were measured, and more
        where those hold fewer candidates than wanted.
        """
        index, facts = self._indexes.ann_index()
        mask, allowed = self._mask, self.allowed
        if lists is None:
            lists = facts.lists_for(recall) or max(facts.recall)
        known = facts.recall.get(lists) if mask is None else None
        wanted = shortlist + len(target.own)
        while True:
            lists = min(lists, index.lists)
            rows = index.candidates(target.embedding, wanted, lists, mask)
            if len(rows) >= min(wanted, allowed) or lists == index.lists:
                break
            lists *= 2
        found = rows[others(rows, target.own)]
        scanned = round(allowed * lists / index.lists)
        ranking = Ranking(_nothing, 1.0, scanned, recall=known, lists=lists)
        return self._reranked(target, found, ranking)

    def fused_candidates(self, target: Target, weight: float, shortlist: int) -> Rows:
        """Return the rows of the largest ``cosine + weight * expected shared labels``."""
        query = np.concatenate([target.embedding, weight * target.scores], axis=1)
        wanted = shortlist + len(target.own)
        _, rows = self._indexes.fused().search(query.astype(np.float32), wanted, self._mask)
        return rows[0][others(rows[0], target.own)][:shortlist]

    def by_fused_code(self, target: Target, weight: float) -> Ranking:
        """Rank by codes and quantized label probabilities; 1 is the score of an ideal record."""
        codes = self._indexes.fused_codes()
        worst = 1.0 + weight * float(np.log1p(target.scores.astype(np.float64)).sum())
        scores = codes.scores(target.embedding, target.scores, weight)[0]
        every = np.ones(len(scores), np.bool_)
        return _listed(
            np.maximum(worst - scores, 0.0), every if self._mask is None else self._mask, worst
        )

    def by_regions(self, target: Target) -> Ranking:
        """Rank by the distance of the nearest region."""
        index = self._indexes.regions()

        def fetch(k: int) -> tuple[Distances, Rows]:
            return index.search(target.embedding, k, self._mask)

        nearest = functools.partial(index.nearest_regions, target.embedding)
        return Ranking(fetch, 1.0, self.allowed, regions=nearest)

    def by_place(self, box: Bounds) -> Ranking:
        """Rank by distance in kilometers from the center of a box."""
        away = kilometers(self._records.bounds, center(box))
        known = ~np.isnan(away)
        return _listed(away, known if self._mask is None else known & self._mask, float(HALFWAY_KM))

    def by_id(self) -> Ranking:
        """Rank by id."""
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

    def _reranked(self, target: Target, rows: Rows, ranking: Ranking) -> Ranking:
        distances = distances_of(self._indexes.vectors.embedding, target.embedding[0], rows)
        distances, order = _ordered(distances, rows, len(rows))

        def fetch(k: int) -> tuple[Distances, Rows]:
            return distances[:k], order[:k]

        return replace(ranking, fetch=fetch, reranked=len(rows))


def _ordered(distances: npt.NDArray[np.float32], rows: Rows, k: int) -> tuple[Distances, Rows]:
    """Clip distances to 0 or more; return the first k by (distance, row)."""
    lifted = np.maximum(distances.astype(np.float64), 0.0)
    order = np.lexsort((rows, lifted))[:k]
    return lifted[order], rows[order]


def _listed(distances: Distances, mask: Mask, worst: float) -> Ranking:
    allowed = np.flatnonzero(mask)
    kept = distances[allowed]

    def fetch(k: int) -> tuple[Distances, Rows]:
        order = smallest(kept, k) if len(kept) else np.empty(0, np.int64)
        return kept[order], allowed[order]

    return Ranking(fetch, worst, len(allowed))


def _nothing(_: int) -> tuple[Distances, Rows]:
    return np.empty(0), np.empty(0, np.int64)


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
        self.vectors = Vectors(archive, store)
        # What was measured is small, and kept on disk for archives of all sizes.
        kept = store if on_disk else Store(archive, on_disk=cache is not False and count > 0)
        self.indexes = Indexes(archive.manifest, self.records, self.vectors, kept)
        self._typical: dict[str, Typical] = {}
        self._measuring = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """Its model, dimensions and source."""
        return self.archive.manifest

    @property
    def mark(self) -> str:
        """A word for the version that was opened."""
        return self.vectors.store.folder.name

    @property
    def remote(self) -> bool:
        """Whether a server ranks the records."""
        return False

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

    def fusion(self) -> Fusion | None:
        """Return the measured weight of labels, if it was measured."""
        return self.indexes.fusion()

    def measure_fusion(self) -> Fusion:
        """Return the measured weight of labels; measure it if that was not done.

        Raises:
            UsageError: The model has no label head.
        """
        return self.indexes.measure_fusion()

    def read_vectors(self, kind: str, rows: Rows) -> npt.NDArray[Any]:
        """Return ``embedding`` or ``scores`` (float32), ``code`` or ``cue`` (packed uint8)."""
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

    def typical(self, mode: str, texts: Encoding | None = None) -> Typical | None:
        """Return distances to compare with those of a mode; measured once for each version."""
        family = FAMILIES.get(mode)
        if family is None or len(self.records) < 2 or (texts and family == "cue"):
            return None
        name = f"typical-{family}" if texts is None else f"typical-{family}-of-texts"
        with self._measuring:
            if name not in self._typical:
                measure = functools.partial(measure_typical, self, family, texts)
                table = self.indexes.measured.table(name, measure)
                self._typical[name] = Typical.from_table(table, texts is not None)
        return self._typical[name]

    def summary(self) -> Summary:
        """Return counts of values, the span of times, and all bounds: see :class:`Summary`."""
        return summarize(self.records)

    def label_counts(self) -> list[dict[str, Any]]:
        """Return each label with its counts: ``annotated``, ``predicted``, matching ``records``."""
        return self.records.label_counts()
