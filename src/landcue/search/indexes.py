"""What the modes of an archive folder search in: indexes, made when first needed."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from pathlib import Path

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
                regions, dim, store = self.vectors.regions, self.manifest.dim, self.vectors.store

                def fit(out: npt.NDArray[np.float64]) -> None:
                    made = RegionSpace.fit(regions, dim)
                    out[0], out[1:] = made.mean, made.metric

                stored = store.array("region-space", np.float64, (1 + dim, dim), fit)
                space = RegionSpace(stored[0], stored[1:])
                fill = functools.partial(space.fill_lengths, regions)
                shape = (len(regions), self.manifest.regions**2)
                lengths = store.array("region-lengths", np.float32, shape, fill)
                self._regions = RegionIndex(regions, dim, space=space, lengths=lengths)
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
