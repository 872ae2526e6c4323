"""A collection with the interface of an archive folder."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from landcue.archive.archive import COLUMNS, ArchiveFolder, Columns, to_columns
from landcue.archive.checksums import MODEL_FOLDER
from landcue.errors import UsageError, did_you_mean
from landcue.milvus.address import Address
from landcue.milvus.expressions import one_of
from landcue.milvus.link import Link
from landcue.milvus.manifest import ManifestStore, read_pushed
from landcue.milvus.record_json import parse_records
from landcue.milvus.records import CollectionRecords, RecordCache
from landcue.models.load import find_model
from landcue.types import FloatArray, Problem


class MilvusArchive(ArchiveFolder):
    """A collection that ``landcue archive push`` wrote, in its current state.

    It holds no thumbnails: they would fill the server's memory.

    Attributes:
        address: Where it is.
        link: Connection to its server.
        pushed: The stored description of the collection.
    """

    def __init__(self, address: Address, model: Path | None = None) -> None:
        """Open a collection for searches.

        Args:
            address: Where it is.
            model: Folder of the model that made its embeddings, needed for image queries.

        Raises:
            ArchiveError: The server cannot be used; the collection does not exist, or was pushed in
                part.
            UsageError: There is no such model.
        """
        self._model = None if model is None else find_model(model)
        if self._model is not None and not self._model.exists():
            raise UsageError(
                f"{self._model} does not exist: give the folder of the collection's model"
            )
        self.address, self.link = address, Link(address)
        try:
            self.pushed = read_pushed(self.link, complete=True)
            for name in self.pushed.layout.names:
                self.link.load(name)
        except BaseException:
            self.link.close()
            raise
        self._following = threading.Lock()
        super().__init__(Path(str(address)), self.pushed.manifest, None)

    def follow(self) -> None:
        """Reload the description if the collection was pushed again.

        Raises:
            ArchiveError: It was pushed in part.
        """
        head = ManifestStore(self.link).head(now=False)
        if head is not None and head["revision"] == self.pushed.revision:
            return
        with self._following:
            self.pushed = read_pushed(self.link, complete=True)
            self.manifest = self.pushed.manifest

    @property
    def model_folder(self) -> Path | None:
        """The model that was given, or that of the archive that was pushed if it is still there."""
        if self._model is not None:
            return self._model
        folder = Path(self.pushed.source) / self.manifest.base / MODEL_FOLDER
        return folder if folder.is_dir() else None

    @property
    def count(self) -> int:
        """Number of records."""
        return self.pushed.records

    @property
    def version(self) -> int:
        """Version of the archive that was pushed."""
        return self.pushed.version

    def batches(self, columns: Sequence[str], rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """Raise a usage error: all columns are in the archive folder only."""
        raise UsageError(f"{self.address} is a Milvus collection: use the archive folder for this")

    def columns(self) -> Columns:
        """Read the columns that evaluation needs, sorted by id.

        Raises:
            ArchiveError: The server cannot be used.
        """
        layout = self.pushed.layout
        vectors = ["embedding", "code"] if layout.n_bits else ["embedding"]
        names = dict.fromkeys((*COLUMNS, *vectors))
        fields = pa.schema([self.manifest.schema.field(name) for name in names])
        parts: list[pa.Table] = []
        for page in self.link.pages(layout.name, "", ["record"]):
            found = RecordCache(self.link, self.pushed)
            rows = found.rows(page).tolist()
            values = parse_records(found.ids, [str(row["record"]) for row in page])
            for vector in vectors:
                for value, one in zip(values, found.vectors(vector, rows), strict=True):
                    value[vector] = one
            parts.append(pa.Table.from_pylist(values, fields))
        return to_columns(pa.concat_tables(parts), self.manifest)

    def label_scores(self) -> FloatArray:
        """Return float32 ``[n, C]`` in 0..1, rows in the order of :meth:`columns`."""
        layout = self.pushed.layout
        if not layout.n_labels:
            return np.empty((self.count, 0), np.float32)
        pages = self.link.pages(layout.name, "", ["scores"])
        return np.array([row["scores"] for page in pages for row in page], np.float32)

    def thumbnails(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return an empty picture for each record: a collection holds none."""
        return dict.fromkeys(ids, b"")

    def verify(self) -> tuple[Problem, ...]:
        """Count the records of all collections.

        Raises:
            ArchiveError: The server cannot be used.
        """
        problems: list[Problem] = []
        for name in self.pushed.layout.names:
            found = self.link.count(name, now=True)
            if found != self.count:
                problems.append(Problem(name, f"holds {found} records instead of {self.count}"))
        return tuple(problems)

    def unknown(self, id_: str) -> UsageError:
        """Return the error for an id that no record has, naming near matches."""
        near = CollectionRecords(RecordCache(self.link, self.pushed)).near_ids(id_)
        return UsageError(f"no record has the id {id_!r}{did_you_mean(id_, near, most=3)}")

    def close(self) -> None:
        """Close the connection to the server."""
        self.link.close()

    def _rows(self, ids: Iterable[str], columns: list[str]) -> list[dict[str, Any]]:
        rows = self.link.query(self.pushed.layout.name, one_of("id", ids), ["record"])
        values = parse_records([row["id"] for row in rows], [row["record"] for row in rows])
        return [{name: value.get(name) for name in columns} for value in values]
