"""A collection, opened as an archive is."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from landcue.archive.archive import Archive
from landcue.archive.columns import Columns, to_columns
from landcue.archive.seal import MODEL_FOLDER
from landcue.errors import UsageError, did_you_mean
from landcue.milvus.address import Address
from landcue.milvus.expressions import one_of
from landcue.milvus.found import Found, FoundRecords
from landcue.milvus.layout import MANIFEST_KEY, manifest_name
from landcue.milvus.link import Link
from landcue.milvus.pushed import Pushed, open_pushed
from landcue.milvus.rows import told_values
from landcue.models.builtin import find_model
from landcue.types import FloatArray, Problem


class MilvusArchive(Archive):
    """A collection that ``landcue archive push`` wrote, seen as it is now.

    Thumbnails are not in it: a picture of every record would fill the servers' memory.

    Attributes:
        address: Where it is.
        link: To its server.
        pushed: What it knows of itself.
    """

    def __init__(self, address: Address, link: Link, model: Path | None = None) -> None:
        """Take a connected server, and where the model is that made the embeddings."""
        self.address, self.link = address, link
        self.pushed = open_pushed(link)
        self._model = model
        self._following = threading.Lock()
        for name in self.pushed.layout.names:
            link.load(name)
        super().__init__(Path(str(address)), self.pushed.manifest, None)

    @classmethod
    def connect(cls, address: Address, model: Path | None = None) -> MilvusArchive:
        """Open a collection for searches.

        Args:
            address: Where it is.
            model: Folder of the model that made its embeddings, to ask with images.

        Raises:
            ArchiveError: The server cannot be used; the collection does not exist, or was pushed in
                part.
            UsageError: There is no such model.
        """
        model = None if model is None else find_model(model)
        if model is not None and not model.exists():
            raise UsageError(f"{model} does not exist: give the folder of the collection's model")
        link = Link(address)
        try:
            return cls(address, link, model)
        except BaseException:
            link.close()
            raise

    def follow(self) -> None:
        """Take notice of what was pushed since.

        Raises:
            ArchiveError: It was pushed in part.
        """
        rows = self.link.query(
            manifest_name(self.address.collection), one_of(MANIFEST_KEY, ["head"]), ["value"]
        )
        if rows and f'"{self.pushed.revision}"' in str(rows[0]["value"]):
            return
        with self._following:
            self.pushed: Pushed = open_pushed(self.link)
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
        """Refuse: whoever needs all columns has the archive folder."""
        raise UsageError(f"{self.address} is a Milvus collection: use the archive folder for this")

    def columns(self) -> Columns:
        """Read what evaluation needs, sorted by id.

        Raises:
            ArchiveError: The server cannot be used.
        """
        layout = self.pushed.layout
        parts: list[pa.Table] = []
        schema = self.manifest.schema
        names = [name for name in _COLUMNS if name != "code" or layout.n_bits]
        for page in self.link.pages(layout.name, "", ["record"]):
            found = Found(self.link, self.pushed)
            rows = found.rows(page).tolist()
            texts = [str(row["record"]) for row in page]
            values = told_values([found.ids[row] for row in rows], texts)
            for value, vector in zip(values, found.embedding(rows), strict=True):
                value["embedding"] = vector
            if layout.n_bits:
                for value, code in zip(values, found.code(rows), strict=True):
                    value["code"] = code
            fields = pa.schema([schema.field(name) for name in names])
            parts.append(pa.Table.from_pylist(values, fields))
        return to_columns(pa.concat_tables(parts), self.manifest)

    def label_scores(self) -> FloatArray:
        """Return float32 ``[n, C]`` in 0..1, rows in the order of :meth:`columns`."""
        layout = self.pushed.layout
        if not layout.n_labels:
            return np.empty((self.count, 0), np.float32)
        pages = self.link.pages(layout.name, "", ["scores"])
        return np.array([row["scores"] for page in pages for row in page], np.float32)

    def record(self, id_: str) -> dict[str, Any]:
        """Return what is told of one record.

        Raises:
            UsageError: No record has this id; the message names near matches.
        """
        rows = self.link.query(self.pushed.layout.name, one_of("id", [id_]), ["record"])
        if not rows:
            raise self.unknown(id_)
        (value,) = told_values([id_], [str(rows[0]["record"])])
        names = [n for n in self.manifest.schema.names if n not in _NOT_TOLD]
        return {name: value.get(name) for name in names}

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
        near = FoundRecords(Found(self.link, self.pushed)).near_ids(id_)
        return UsageError(f"no record has the id {id_!r}{did_you_mean(id_, near, most=3)}")

    def close(self) -> None:
        """Let go of the server."""
        self.link.close()


_COLUMNS = (
    *("id", "path", "labels", "predicted_labels", "embedding", "code"),
    *("west", "south", "east", "north", "time", "group", "part", "sensor"),
)
_NOT_TOLD = frozenset(
    {"embedding", "code", "label_scores", "thumbnail", "check", "metadata_check", "content"}
)
