"""What searches need of the place that records lie in: a folder, or a collection on a server.

:class:`landcue.search.local.LocalBackend` and :class:`landcue.milvus.backend.MilvusBackend`
implement these protocols; a further one needs nothing but them. Its results must equal those of a
folder: the same ids in the same order, ties by id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from landcue.archive.archive import Columns
from landcue.archive.manifest import Manifest
from landcue.archive.plan import Stored
from landcue.search.exact import AnnFacts
from landcue.search.filters import Filter
from landcue.search.fusion import Fusion
from landcue.search.pages import Fetch, Rows
from landcue.search.records import Records, Summary
from landcue.search.vectors import Vectors
from landcue.types import Bounds, ByteArray, Encoding, FloatArray, Problem

if TYPE_CHECKING:
    from landcue.search.typical import Typical

Facts = tuple[Any, ...]
"""The values of :data:`landcue.search.records.COLUMNS` of one record."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An encoded query.

    Attributes:
        embedding: float32 ``[1, d]``, unit norm.
        code: uint8 ``[1, ceil(n_bits / 8)]``.
        cue: Predicted labels as bits, uint8 ``[1, ceil(C / 8)]``.
        scores: Label probabilities, float32 ``[1, C]``.
        labels: Labels of its positives.
        own: Rows of the records among its examples, which are not returned.
        id: Id of the record that is the only example.
        pixels: uint8 ``[h, w, C]`` of the image that is the only example.
    """

    embedding: FloatArray
    code: ByteArray
    cue: ByteArray
    scores: FloatArray = field(default_factory=lambda: np.empty((1, 0), np.float32))
    labels: tuple[str, ...] = ()
    own: frozenset[int] = frozenset()
    id: str | None = None
    pixels: ByteArray | None = None


@dataclass(slots=True)
class Ranking:
    """One ranking of the allowed records.

    Attributes:
        fetch: Returns its first K.
        worst: The distance whose score is 0: score = 1 - distance / worst.
        scanned: This and the following as in :class:`landcue.search.plan.Plan`.
        parts: Returns the parts of the scores of rows that come from the embedding and from the
            labels, float64 ``[m, 2]``, in mode ``fused``.
        regions: Returns which region of each of some rows matches best, int64 ``[m]``, in mode
            ``regions``.
    """

    fetch: Fetch
    worst: float
    scanned: int
    reranked: int = 0
    recall: float | None = None
    lists: int | None = None
    parts: Callable[[Rows], npt.NDArray[np.float64]] | None = None
    regions: Callable[[Rows], npt.NDArray[np.int64]] | None = None


class RecordReader(Protocol):
    """The records without their vectors, by row."""

    def __len__(self) -> int:
        """Return the number of records in the archive."""
        ...

    def id(self, row: int) -> str:
        """Return the id of a row."""
        ...

    def find(self, id_: str) -> int | None:
        """Return the row of an id, or ``None``."""
        ...

    def near_ids(self, id_: str) -> list[str]:
        """Return ids that sort near an unknown one."""
        ...

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where they are known, else the predicted ones."""
        ...

    def annotated(self, row: int) -> tuple[str, ...] | None:
        """Return the annotated labels; ``None`` where there is no annotation."""
        ...

    def predicted_of(self, row: int) -> tuple[str, ...]:
        """Return the predicted labels."""
        ...


class Selection(Protocol):
    """The records that a filter lets through, and their rankings, one method per mode."""

    @property
    def allowed(self) -> int:
        """Number of records; where a server cannot count them exactly, an upper bound."""
        ...

    def why_empty(self) -> str:
        """Return one line with the conditions and how many records each one allows by itself."""
        ...

    def by_embedding(self, target: Target) -> Ranking:
        """Rank by exact float distance."""
        ...

    def by_code(
        self, mode: str, targets: Sequence[Target], weight: int, first: int = 0
    ) -> list[Ranking]:
        """Rank for several targets by Hamming distance.

        Args:
            mode: ``code``: of the hash codes; ``cue``: to which ``weight`` times that of the
                predicted labels is added.
            targets: At least one.
            weight: Of the labels.
            first: So many of each may be found in one scan for all targets.
        """
        ...

    def by_sketch(self, target: Target) -> Ranking:
        """Rank by sketches: the planner ranks the first by exact float distance."""
        ...

    def by_ann(self, target: Target, wanted: int, recall: float, lists: int | None) -> Ranking:
        """Find candidates in the approximate index, which the planner ranks by exact distance.

        Args:
            target: The query.
            wanted: Number of candidates.
            recall: The fewest lists that reach it are visited.
            lists: To visit instead.

        Raises:
            UsageError: There is no such index.
        """
        ...

    def by_fused(self, target: Target, weight: float) -> Ranking:
        """Find candidates by the largest ``cosine + weight * expected shared labels``."""
        ...

    def by_fused_code(self, target: Target, weight: float) -> Ranking:
        """Rank by the codes and quantized label probabilities of the records.

        Args:
            target: The query, with its exact embedding and label probabilities.
            weight: Of the log gain.
        """
        ...

    def by_regions(self, target: Target) -> Ranking:
        """Rank by the distance of the nearest region."""
        ...

    def by_place(self, box: Bounds) -> Ranking:
        """Rank by distance in kilometers from the center of a box."""
        ...

    def by_id(self) -> Ranking:
        """List in the order of ids."""
        ...


class View(Protocol):
    """An archive as one search sees it; the rows of one view mean nothing to another."""

    @property
    def manifest(self) -> Manifest:
        """Its model, dimensions and source."""
        ...

    @property
    def mark(self) -> str:
        """A word for the content; a cursor belongs to one mark."""
        ...

    @property
    def records(self) -> RecordReader:
        """The records without their vectors."""
        ...

    def ann_facts(self) -> AnnFacts | None:
        """Return what was measured of the approximate index, if there is one."""
        ...

    def fusion(self) -> Fusion | None:
        """Return the measured weight of labels, if it was measured."""
        ...

    def read_vectors(self, kind: str, rows: Rows) -> npt.NDArray[Any]:
        """Return vectors of ``[m]`` rows.

        Args:
            kind: ``embedding`` or ``scores`` (float32), ``code`` or ``cue`` (packed uint8).
            rows: int64 ``[m]``.
        """
        ...

    def read_facts(self, rows: Rows) -> Callable[[], list[Facts]]:
        """Return what gives the facts of ``[m]`` rows.

        They are read at once where the content may change later, else at the first call.
        """
        ...

    def select(self, where: Filter | None) -> Selection:
        """Apply a filter; ``None`` lets all records through.

        Raises:
            UsageError: As :meth:`landcue.search.filters.Filter.conditions`.
        """
        ...


class Storage(Protocol):
    """An opened archive as it is stored: an archive folder implements this."""

    @property
    def folder(self) -> Path:
        """Its path or address."""
        ...

    @property
    def manifest(self) -> Manifest:
        """Its model, dimensions and source."""
        ...

    @property
    def count(self) -> int:
        """Number of records."""
        ...

    @property
    def version(self) -> int:
        """Version of its content: it grows with every change."""
        ...

    @property
    def model_folder(self) -> Path | None:
        """The model that made it, if it is there."""
        ...

    def columns(self) -> Columns:
        """Read the columns that evaluation needs, sorted by id."""
        ...

    def label_scores(self) -> FloatArray:
        """Return float32 ``[n, C]`` in 0..1, rows in the order of :meth:`columns`."""
        ...

    def stored(self) -> dict[str, Stored]:
        """Return the metadata of all records by id; of files, at least their paths."""
        ...

    def read_records(self, ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Return the columns of some records except their vectors.

        Raises:
            UsageError: No record has one of the ids; the message names near matches.
        """
        ...

    def file(self, id_: str) -> Path:
        """Return the path of a record's image at the time of indexing."""
        ...

    def thumbnails(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return the JPEG thumbnails of the records among ``ids``; empty where none is stored."""
        ...

    def thumbnail(self, id_: str) -> bytes:
        """Return the JPEG thumbnail of one record."""
        ...

    def verify(self) -> tuple[Problem, ...]:
        """Compare the records with their checksums, or count them."""
        ...

    def close(self) -> None:
        """Release what opening holds."""
        ...


class Backend(Protocol):
    """An opened archive. Several threads may use it."""

    @property
    def archive(self) -> Storage:
        """The storage."""
        ...

    @property
    def mark(self) -> str:
        """A word for the content as last seen; a cursor belongs to one mark."""
        ...

    @property
    def records(self) -> Records:
        """All records.

        Raises:
            UsageError: There are too many, as in a collection.
        """
        ...

    @property
    def vectors(self) -> Vectors:
        """All vectors.

        Raises:
            UsageError: There are too many, as in a collection.
        """
        ...

    @property
    def remote(self) -> bool:
        """Whether a server ranks the records: modes of :data:`landcue.search.plan.LOCAL` cannot."""
        ...

    def view(self) -> View:
        """Return the archive as a search sees it that starts now.

        Raises:
            ArchiveError: A server cannot be reached, or its collection is incomplete.
        """
        ...

    def ann_facts(self) -> AnnFacts | None:
        """Return what was measured of the approximate index, if there is one."""
        ...

    def build_ann(self) -> AnnFacts:
        """Load or build the approximate index.

        Raises:
            UsageError: That is not possible here.
        """
        ...

    def fusion(self) -> Fusion | None:
        """Return the measured weight of labels, if it was measured."""
        ...

    def measure_fusion(self) -> Fusion:
        """Return the measured weight of labels; measure it if that was not done.

        Raises:
            UsageError: The model has no label head.
        """
        ...

    def typical(self, mode: str, texts: Encoding | None = None) -> Typical | None:
        """Return distances to compare with those of a mode; ``None`` where none were measured.

        Args:
            mode: The mode.
            texts: General descriptions, where the query is a text: its distances are larger.
        """
        ...

    def summary(self) -> Summary:
        """Return counts of values, the span of times, and all bounds: see :class:`Summary`."""
        ...

    def label_counts(self) -> list[dict[str, Any]]:
        """Return each label with its counts: ``annotated``, ``predicted``, matching ``records``."""
        ...
