"""Search one archive by a record or by an encoded image."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import Archive, unknown_id
from landcue.codes.hamming import CodeIndex
from landcue.codes.packing import check_codes
from landcue.codes.topk import check_k
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.search.exact import FloatIndex
from landcue.search.filters import Filter
from landcue.types import ByteArray, Encoding, FloatArray, Hit

MODES = ("auto", "embedding", "code")
SearchedMode = Literal["embedding", "code"]


@dataclass(frozen=True, slots=True)
class ById:
    """A query by a record of the archive, which does not find itself."""

    id: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The nearest records, nearest first; equal distances in the order of their ids.

    Attributes:
        query: What was asked for: an id, or what the caller calls its image.
        mode: ``embedding``: distance is 1 - cosine, score the cosine. ``code``: distance is the
            number of differing bits, score the share of equal bits.
        hits: At most k.
    """

    query: str
    mode: SearchedMode
    hits: tuple[Hit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values: ``query``, ``mode`` and ``hits``."""
        return {
            "query": self.query,
            "mode": self.mode,
            "hits": [
                {
                    "id": hit.id,
                    "path": hit.path,
                    "distance": int(hit.distance) if self.mode == "code" else hit.distance,
                    "score": hit.score,
                    "labels": list(hit.labels),
                }
                for hit in self.hits
            ],
        }


class Searcher:
    """All records of an archive in memory, searched exactly.

    It may be used from several threads.

    Attributes:
        archive: As it was when the searcher was made.
        columns: Its records, sorted by id.
    """

    def __init__(self, archive: Archive) -> None:
        """Read the archive.

        Raises:
            ArchiveError: It is broken.
        """
        self.archive = archive
        self.columns = archive.columns()
        self._floats: FloatIndex | None = None
        self._codes: CodeIndex | None = None
        self._lock = threading.Lock()

    def search(
        self,
        query: ById | Encoding,
        k: int = 20,
        mode: str = "auto",
        where: Filter | None = None,
        *,
        name: str | None = None,
    ) -> SearchResult:
        """Return the k nearest records.

        Args:
            query: A record of the archive, or one image encoded by the archive's own model.
            k: Hits wanted; fewer come back when fewer records match.
            mode: ``embedding`` (also ``auto``) or ``code``.
            where: Which records may be found; all without it.
            name: What the result calls the query; by default its id, or ``image``.

        Raises:
            UsageError: ``k`` is less than 1; the mode, the id or a label is unknown; codes are
                asked for and the model has none; or the encoding is not one finite image of the
                archive's sizes.
            ArchiveError: The archive is empty.
        """
        k = check_k(k)
        chosen = self._mode(mode)
        if not len(self.columns):
            raise ArchiveError(
                f"{self.archive.folder} holds no records; index images into it first"
            )
        mask = None if where is None else where.mask(self.columns)
        own = None
        if isinstance(query, ById):
            own = self.columns.find(query.id)
            if own is None:
                raise unknown_id(query.id, self.columns.ids)
            embedding, code = self.columns.embedding[[own]], self.columns.code[[own]]
            name = name or query.id
        else:
            self._check(query)
            embedding, code = query.embedding, query.code
        # One more than asked for, because the query itself may be among them.
        wanted = k if own is None else k + 1
        distances, rows = self._nearest(chosen, embedding, code, wanted, mask)
        found = zip(distances.tolist(), rows.tolist(), strict=True)
        others = [(distance, row) for distance, row in found if row != own][:k]
        hits = tuple(self._hit(chosen, distance, row) for distance, row in others)
        return SearchResult(name or "image", chosen, hits)

    def labels_of(self, id_: str) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if unknown or not annotated."""
        row = self.columns.find(id_)
        return None if row is None else self.columns.labels.row(row)

    def _mode(self, mode: str) -> SearchedMode:
        if mode not in MODES:
            raise UsageError(f"unknown mode {mode!r}{did_you_mean(mode, MODES)}")
        if mode == "code" and not self.archive.manifest.n_bits:
            raise UsageError(
                f"{self.archive.folder} has no codes, because its model has no hash head; "
                "search it with mode embedding"
            )
        return "code" if mode == "code" else "embedding"

    def _check(self, query: Encoding) -> None:
        manifest = self.archive.manifest
        dim = query.embedding.shape[-1] if query.embedding.ndim else 0
        if (dim, query.n_bits) != (manifest.dim, manifest.n_bits):
            raise UsageError(
                f"the query has {dim} dimensions and {query.n_bits} bits, the archive "
                f"{manifest.dim} and {manifest.n_bits}: encode it with the archive's own model"
            )
        if query.embedding.shape[0] != 1 or query.embedding.ndim != 2:
            raise UsageError(f"the query holds {len(query)} images: search with one at a time")
        check_codes(query.code, query.n_bits, "query codes")
        norm = float(np.linalg.norm(query.embedding))
        if not abs(norm - 1) <= 1e-3:  # also for NaN
            raise UsageError(
                f"the query's embedding has norm {norm}, not 1: check the model that made it"
            )

    def _nearest(
        self,
        mode: SearchedMode,
        embedding: FloatArray,
        code: ByteArray,
        k: int,
        mask: npt.NDArray[np.bool_] | None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        if mode == "code":
            distances, rows = self._code_index().search(code, k, mask)
            return distances[0], rows[0]
        distances, rows = self._float_index().search(embedding, k, mask)
        return distances[0], rows[0]

    def _float_index(self) -> FloatIndex:
        with self._lock:
            if self._floats is None:
                self._floats = FloatIndex(self.columns.embedding)
            return self._floats

    def _code_index(self) -> CodeIndex:
        with self._lock:
            if self._codes is None:
                self._codes = CodeIndex(self.columns.code, self.archive.manifest.n_bits)
            return self._codes

    def _hit(self, mode: SearchedMode, distance: float, row: int) -> Hit:
        # Rounding can put equal embeddings a hair beyond each other.
        distance = max(0.0, distance)
        worst = self.archive.manifest.n_bits if mode == "code" else 1
        return Hit(
            id=self.columns.ids[row],
            path=self.columns.paths[row],
            distance=distance,
            score=1 - distance / worst,
            labels=self.columns.labels_of(row),
        )
