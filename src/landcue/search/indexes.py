"""What the modes of an archive folder search in: indexes, made when first needed."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from landcue.archive.manifest import Manifest
from landcue.codes.cue_index import CueIndex
from landcue.codes.hamming import CodeIndex
from landcue.codes.hashers import fit_decoder
from landcue.codes.regions import RegionIndex, RegionSpace
from landcue.errors import ArchiveError
from landcue.search import store as files
from landcue.search.exact import (
    SHORTLIST,
    AnnFacts,
    AnnIndex,
    FloatIndex,
    held_out,
    measure,
)
from landcue.search.fusion import Fusion, measure_fusion
from landcue.search.plan import check_mode
from landcue.search.records import Records
from landcue.search.rerank import FusedCodes
from landcue.search.store import Store
from landcue.search.vectors import Sketches, Vectors

T = TypeVar("T")

_ANN = "ann.faiss"
_FUSION = "fusion.txt"
_DECODED = 5_000  # records on which codes are decoded to embeddings


def _once(make: Callable[[Indexes], T]) -> Callable[[Indexes], T]:
    """Make what a method returns at the first call; later ones do not wait for other methods."""

    @functools.wraps(make)
    def get(self: Indexes) -> T:
        name = make.__name__
        if name not in self.made:
            with self.lock:
                if name not in self.made:
                    self.made[name] = make(self)
        return self.made[name]

    return get


class Indexes:
    """What the modes of one archive search in, made when first needed; threads share it."""

    def __init__(
        self, manifest: Manifest, records: Records, vectors: Vectors, measured: Store
    ) -> None:
        self.manifest, self.vectors, self._records = manifest, vectors, records
        self.measured = measured
        self.sketches = Sketches(vectors, manifest.dim)
        self.lock = threading.RLock()
        self.made: dict[str, Any] = {}
        self._fusion: Fusion | None = None

    @_once
    def floats(self) -> FloatIndex:
        """Return the index of embeddings."""
        return FloatIndex(self.vectors.embedding)

    @_once
    def codes(self) -> CodeIndex:
        """Return the index of hash codes."""
        return CodeIndex(self.vectors.code, self.manifest.n_bits)

    @_once
    def cues(self) -> CueIndex:
        """Return the index of labels and hash codes."""

        def write(path: Path) -> files.Facts:
            CueIndex(self.vectors.cue_codes()).save(path)
            return {}

        found = self.vectors.store.file("cue.index", write)
        if found is not None:
            with contextlib.suppress(ArchiveError):  # damaged: verify names it
                return CueIndex.open(found[0])
        return CueIndex(self.vectors.cue_codes())

    @_once
    def regions(self) -> RegionIndex:
        """Return the index of the embeddings of regions."""
        regions, dim, store = self.vectors.regions, self.manifest.dim, self.vectors.store

        def fit(out: npt.NDArray[np.float64]) -> None:
            made = RegionSpace.fit(regions, dim)
            out[0], out[1:] = made.mean, made.metric

        stored = store.array("region-space", np.float64, (1 + dim, dim), fit)
        space = RegionSpace(stored[0], stored[1:])
        fill = functools.partial(space.fill_lengths, regions)
        shape = (len(regions), self.manifest.regions**2)
        lengths = store.array("region-lengths", np.float32, shape, fill)
        return RegionIndex(regions, dim, space=space, lengths=lengths)

    @_once
    def fused(self) -> FloatIndex:
        """Return the index of embeddings, each followed by its label probabilities."""
        embedding, scores = self.vectors.embedding, self.vectors.scores

        def fill(out: npt.NDArray[np.float32]) -> None:
            out[:, : embedding.shape[1]], out[:, embedding.shape[1] :] = embedding, scores

        shape = (len(embedding), embedding.shape[1] + scores.shape[1])
        return FloatIndex(self.vectors.store.array("fused", np.float32, shape, fill))

    @_once
    def fused_codes(self) -> FusedCodes:
        """Return the codes with quantized label probabilities, decoded as a sample of them is."""
        vectors, n = self.vectors, len(self.vectors.code)
        some = np.sort(np.random.default_rng(0).choice(n, min(n, _DECODED), replace=False))
        decoder = fit_decoder(vectors.code[some], vectors.embedding[some], self.manifest.n_bits)
        return FusedCodes(vectors.code, vectors.scores, decoder)

    def fusion(self) -> Fusion | None:
        """Return the measured weight of labels, if it was measured."""
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
        with self.lock:
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
        if "ann_index" in self.made:
            return self.ann_index()[1]
        found = self.vectors.store.existing(_ANN)
        return None if found is None else AnnFacts.from_json(found[1])

    @_once
    def ann_index(self) -> tuple[AnnIndex, AnnFacts]:
        """Load the approximate index, or build and measure it.

        Raises:
            UsageError: FAISS is not installed.
        """
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
            return made[0] if made else make()
        return AnnIndex.load(found[0]), AnnFacts.from_json(found[1])
