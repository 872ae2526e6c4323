"""An opened archive: its facts, its encoder and its records, and copies of it on a server."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from landcue.archive.archive import ArchiveFolder, Columns, unknown_id
from landcue.archive.layout import has_text
from landcue.archive.manifest import Manifest, read_manifest
from landcue.archive.schema import footprint_of, window_of
from landcue.archive.space import ArchiveSpace
from landcue.errors import LandcueError, UsageError
from landcue.search.backend import Backend, Storage
from landcue.search.local import LocalBackend
from landcue.search.planner import Planner
from landcue.search.records import Summary
from landcue.types import Bounds, Encoder, FloatArray, Problem, Record

if TYPE_CHECKING:
    from landcue.milvus.push import DiffReport, PushReport

Model = str | os.PathLike[str] | Encoder | Callable[[], Encoder]
_SIDES = ("west", "south", "east", "north")


class OpenedArchive:
    """What an :class:`landcue.Archive` is besides its searches.

    Attributes:
        backend: What searches its records.
    """

    def __init__(
        self, folder: Storage, model: Model | None = None, *, cache: bool | None = None
    ) -> None:
        """Search a storage that :func:`open_archive` opened.

        Args:
            folder: The storage.
            model: Encodes query images; by default the archive's own model, loaded when needed.
            cache: Keep derived files below ``indexes/`` in the archive; by default for 20,000
                records and more.
        """
        self._storage = folder
        self._model, self._cache = model, cache
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self.backend = _backend(folder, cache)
        self._planner = Planner(self.backend, self._load if self.encodes else None)

    # What it is

    @property
    def folder(self) -> Path:
        """Its path, or the address of a collection."""
        return self._storage.folder

    @property
    def space(self) -> ArchiveSpace:
        """The space of its embeddings: which vectors can be compared with them."""
        return self._planner.space

    @property
    def url(self) -> str:
        """The address that :func:`landcue.open` takes."""
        return str(self.folder)

    @property
    def manifest(self) -> Manifest:
        """Its model, dimensions and source."""
        return self._storage.manifest

    @property
    def local(self) -> bool:
        """Whether it is a folder, and not a collection on a server."""
        return not is_collection(self.folder)

    def __len__(self) -> int:
        return self._storage.count

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and self.backend.view().records.find(id_) is not None

    @property
    def version(self) -> int:
        """Version of the table: it grows with every commit; 0 when it is empty."""
        return self._storage.version

    @property
    def mark(self) -> str:
        """Identifier of the searched content; a cursor is valid for one mark."""
        return self.backend.mark

    @property
    def modes(self) -> tuple[str, ...]:
        """Search modes of this archive; ``ann`` and the fused ones only once built and measured.

        >>> archive.modes[:5]
        ('auto', 'embedding', 'code', 'cue', 'two-stage')
        """
        return self._planner.modes

    @property
    def model_folder(self) -> Path | None:
        """The copy of the model that made the archive, if there is one."""
        return self._storage.model_folder

    @property
    def encodes(self) -> bool:
        """Whether images can be queries: whether there is a model."""
        known = self._model is not None or self._storage.model_folder is not None
        return known and not self.manifest.imported

    @property
    def encodes_text(self) -> bool:
        """Whether texts can be queries: whether the model has a text tower."""
        folder = self._storage.model_folder
        if not self.encodes or folder is None:
            return self.encodes and bool(getattr(self._load(), "has_text", False))
        return has_text(folder)

    def encoder(self) -> Encoder:
        """Return the archive's encoder, loaded once.

        Raises:
            UsageError: The archive holds no model.
            ArchiveError: The model is not the one that made the archive.
        """
        return self._load()

    # Reading

    def record(self, id_: str) -> Record:
        """Return a record.

        >>> archive.record("a.png").labels
        ('water',)

        Raises:
            UsageError: No record has this id; the message names near matches.
        """
        return self.records([id_])[0]

    def records(self, ids: Sequence[str]) -> list[Record]:
        """Return some records, in the order of their ids in ``ids``: one read for all.

        >>> [record.labels for record in archive.records(["d.png", "a.png"])]
        [('grass',), ('water',)]

        Raises:
            UsageError: No record has one of the ids; the message names near matches.
        """
        return [_record(row) for row in self._storage.read_records(ids)]

    def file(self, id_: str) -> Path:
        """Return the path of a record's image at the time of indexing.

        Raises:
            UsageError: No record has this id.
        """
        return self._storage.file(id_)

    def thumbnails(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return the JPEG thumbnails of the records among ``ids``; empty where none is stored."""
        return self._storage.thumbnails(ids)

    def thumbnail(self, id_: str) -> bytes:
        """Return the JPEG thumbnail of a record; empty where none is stored.

        Raises:
            UsageError: No record has this id.
        """
        return self._storage.thumbnail(id_)

    def labels_of(self, id_: str) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if unknown or not annotated."""
        return self._planner.labels_of(id_)

    def predicted_of(self, id_: str) -> tuple[str, ...]:
        """Return the predicted labels of a record; empty if there is none."""
        records = self.backend.view().records
        row = records.find(id_)
        return () if row is None else records.predicted_of(row)

    def near_ids(self, id_: str) -> list[str]:
        """Return ids that sort near an unknown one, as suggestions."""
        return self.backend.view().records.near_ids(id_)

    def unknown_id(self, id_: str) -> UsageError:
        """Return the error for an id that no record has, naming near matches."""
        return unknown_id(id_, self.near_ids(id_))

    def ids(self) -> list[str]:
        """Return all ids, ascending.

        Raises:
            UsageError: A collection is too large for this.
        """
        return self.backend.records.ids()

    def summary(self) -> Summary:
        """Return counts of values, the span of times, and all bounds: see :class:`Summary`."""
        return self.backend.summary()

    def label_counts(self) -> list[dict[str, Any]]:
        """Return each label with its counts: ``annotated``, ``predicted``, matching ``records``."""
        return self.backend.label_counts()

    def columns(self) -> Columns:
        """Read the columns that evaluation needs, sorted by id. Each call reads them again.

        Raises:
            ArchiveError: The table is broken.
        """
        columns = self._storage.columns()
        return replace(columns, embedding=self.space.tag(columns.embedding))

    def label_scores(self) -> FloatArray:
        """Return predicted scores float32 ``[n, C]`` in 0..1, in the order of :meth:`columns`."""
        return self._storage.label_scores()

    def verify(self) -> tuple[Problem, ...]:
        """Compare every record with its checksums; of a collection, compare the counts.

        Raises:
            ArchiveError: It cannot be read at all.
        """
        return self._storage.verify()

    def build_ann(self) -> dict[str, object]:
        """Load or build the approximate index; return its measured recall.

        Raises:
            UsageError: FAISS is not installed, or the index of a collection was not chosen when
                it was pushed.
        """
        return self.backend.build_ann().to_json()

    def measure_fusion(self) -> dict[str, Any]:
        """Return the weight of label probabilities in mode ``fused``, measured on first use.

        Where it is more than 0, mode ``auto`` uses ``fused``.

        >>> archive.measure_fusion()["weight"]
        0.0

        Raises:
            UsageError: The model has no label head, or the weight of a collection was not measured
                when it was pushed.
        """
        return self.backend.measure_fusion().to_json()

    # Milvus

    def push(
        self,
        url: str,
        *,
        index: str | None = None,
        rows: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> PushReport:
        """Make a Milvus collection equal to the archive; call again to resume.

        Args:
            url: ``milvus://host:port/collection``.
            index: Index of a new collection: ``flat`` (the default) or ``ivf``.
            rows: Records per batch.
            progress: Called with the stage, the number of finished records and their total.

        Raises:
            ArchiveError: The archive is empty; the server cannot be used; the collection holds
                embeddings of another model, or its fields are too short for a value.
            UsageError: An unknown index, another than the collection has, or batches too large.
        """
        from landcue.milvus.link import Address
        from landcue.milvus.manifest import ROWS
        from landcue.milvus.push import push

        report = progress or _ignore
        return push(
            self._files(), Address.parse(url), index=index, rows=rows or ROWS, progress=report
        )

    def diff(self, url: str, *, progress: Callable[[int, int], None] | None = None) -> DiffReport:
        """Compare every record with a Milvus collection.

        Args:
            url: ``milvus://host:port/collection``.
            progress: Called with the number of compared records and their total.

        Raises:
            ArchiveError: The server cannot be used, there is no collection, or it holds
                embeddings of another model.
        """
        from landcue.milvus.link import Address
        from landcue.milvus.push import diff

        return diff(self._files(), Address.parse(url), progress=progress or _ignore)

    def _files(self) -> ArchiveFolder:
        if not isinstance(self._storage, ArchiveFolder):
            raise UsageError(f"{self.url} is a Milvus collection: use the archive folder for this")
        return self._storage

    def stale(self) -> bool:
        """Return whether the folder was written to since it was opened; a collection is current."""
        if not self.local:
            return False
        try:
            return read_manifest(self.folder) != self.manifest
        except LandcueError:  # a folder that is being replaced
            return False

    def reopen(self) -> Self:
        """Open the newest version; a loaded encoder is kept if the model is the same.

        Raises:
            ArchiveError: It is gone, or broken.
        """
        storage = open_storage(self.folder)
        same = storage.manifest.fingerprint == self.manifest.fingerprint
        return type(self)(storage, (same and self._encoder) or self._model, cache=self._cache)

    def close(self) -> None:
        """Release the opened version, so that writers may remove it; disconnect from a server."""
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {len(self)} records, version {self.version})"

    def _load(self) -> Encoder:
        with self._loading:
            if self._encoder is None:
                encoder = self._loaded()
                self.manifest.check_encoder(encoder, self.folder)
                self._encoder = encoder
            return self._encoder

    def _loaded(self) -> Encoder:
        model = self._model
        if isinstance(model, Encoder):
            return model
        if callable(model):
            return model()
        folder = self._storage.model_folder
        if folder is None:
            raise UsageError("the archive holds no model: only its own records can be queries")
        from landcue.models.load import load_model

        return load_model(folder)


def open_storage(path: Path, model: Path | None = None) -> Storage:
    """Open an archive folder, or a collection ``milvus://host:port/collection``, without searching.

    Args:
        path: Folder or address.
        model: Folder of the model that made the embeddings of a collection.

    Raises:
        ArchiveError: There is none, or it is broken, or its server cannot be used.
        UsageError: The address is not valid, or a model is specified for a folder.
    """
    if is_collection(path):
        from landcue.milvus.backend import MilvusBackend
        from landcue.milvus.link import Address

        return MilvusBackend(Address.parse(path), model)
    if model is not None:
        raise UsageError(
            "--model is for milvus:// collections only: an archive folder holds its own model"
        )
    return ArchiveFolder.open(path)


def is_collection(path: str | Path) -> bool:
    """Return whether an archive's path is the address of a collection on a server."""
    return str(path).startswith(("milvus:/", "milvuss:/"))


def _backend(storage: Storage, cache: bool | None) -> Backend:
    if isinstance(storage, ArchiveFolder):
        return LocalBackend(storage, cache=cache)
    return cast("Backend", storage)  # a collection searches itself


def _ignore(*_: Any) -> None:
    """Show no progress."""


def _record(row: Mapping[str, Any]) -> Record:
    labels, wkb = row["labels"], row["geometry"]
    bounds = None if row["west"] is None else Bounds(*(row[side] for side in _SIDES))
    return Record(
        id=row["id"],
        path=Path(row["path"]),
        labels=None if labels is None else tuple(labels),
        group=row["group"],
        bbox=bounds,
        datetime=row["time"],
        part=row["part"],
        window=window_of(row["pixel_bbox"]),
        sensor=row["sensor"],
        geometry=None if wkb is None else footprint_of(wkb),
        predicted=tuple(row["predicted_labels"] or ()),
        source=row["source"],
        reading=json.loads(row["reading"]) if row.get("reading") else None,
    )
