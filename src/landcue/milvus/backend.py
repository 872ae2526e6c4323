"""A collection as a storage and as a search backend: the answers are those of a folder."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from landcue.archive import storage
from landcue.archive.archive import COLUMNS as EVALUATED
from landcue.archive.archive import Columns, to_columns, unknown_id
from landcue.archive.checksums import MODEL_FOLDER
from landcue.archive.manifest import Manifest
from landcue.archive.plan import Stored, stored_row
from landcue.archive.schema import LABEL_THRESHOLD
from landcue.errors import UsageError
from landcue.milvus.link import LARGEST, Address, Link, carries
from landcue.milvus.manifest import ManifestStore, read_pushed
from landcue.milvus.rows import parse_record
from landcue.milvus.view import MilvusView
from landcue.models.load import find_model
from landcue.search.exact import AnnFacts
from landcue.search.fusion import Fusion
from landcue.search.plan import check_mode
from landcue.search.records import COLUMNS, Records, Summary
from landcue.search.vectors import Vectors
from landcue.types import Encoding, FloatArray, Problem


class MilvusBackend:
    """A collection that ``landcue archive push`` wrote, in its current state.

    Its methods are those of :class:`landcue.search.backend.Storage` and ``Backend``. It holds no
    thumbnails: they would fill the server's memory.

    Attributes:
        folder: Its address.
        address: Likewise.
        link: Connection to its server.
        pushed: The stored description of the collection.
        largest: Most hits or rows per response of the server.
        outlines: Most records in the box around a polygon whose outlines are read in advance.
    """

    def __init__(
        self,
        address: Address,
        model: Path | None = None,
        *,
        largest: int = LARGEST,
        outlines: int = LARGEST,
    ) -> None:
        """Open a collection for searches.

        Args:
            address: Where it is.
            model: Folder of the model that made its embeddings, needed for image queries.
            largest: Most hits or rows per response of the server.
            outlines: Most records in the box around a polygon whose outlines are read in advance.
        """
        self._model = None if model is None else find_model(model)
        if self._model is not None and not self._model.exists():
            raise UsageError(
                f"{self._model} does not exist: pass the folder of the collection's model"
            )
        self.address, self.folder = address, Path(str(address))
        self.largest, self.outlines = largest, outlines
        self.link, self._following = Link(address), threading.Lock()
        try:
            self.pushed = read_pushed(self.link, complete=True)
            for name in self.pushed.collections:
                self.link.load(name)
        except BaseException:
            self.link.close()
            raise

    # As a storage

    @property
    def manifest(self) -> Manifest:
        return self.pushed.manifest

    @property
    def count(self) -> int:
        return self.pushed.records

    @property
    def version(self) -> int:
        return self.pushed.version

    @property
    def model_folder(self) -> Path | None:
        """The model that was given, or that of the archive that was pushed if it is still there."""
        if self._model is not None:
            return self._model
        return storage.local_copy(Path(self.pushed.source) / self.manifest.base / MODEL_FOLDER)

    def columns(self) -> Columns:
        vectors = ["embedding", "code"] if self.manifest.n_bits else ["embedding"]
        names = dict.fromkeys((*EVALUATED, *vectors))
        schema, parts = pa.schema([self.manifest.schema.field(name) for name in names]), []
        for page in self.link.pages(self.pushed.name, "", ["record"]):
            view = self._view()
            rows = view.rows(page)
            values = view.read("record", rows)
            for vector in vectors:
                for value, one in zip(values, view.read_vectors(vector, rows), strict=True):
                    value[vector] = one
            parts.append(pa.Table.from_pylist(values, schema))
        return to_columns(pa.concat_tables(parts), self.manifest)

    def label_scores(self) -> FloatArray:
        if not self.manifest.label_names:
            return np.empty((self.count, 0), np.float32)
        pages = self.link.pages(self.pushed.name, "", ["scores"])
        return np.array([row["scores"] for page in pages for row in page], np.float32)

    def stored(self) -> dict[str, Stored]:
        """Return the metadata of all records by id, without sizes, times and digests of files."""
        unknown: dict[str, Any] = {"size": 0, "mtime_ns": 0, "content": ""}
        unknown |= dict.fromkeys(COLUMNS)
        found: dict[str, Stored] = {}
        for page in self.link.pages(self.pushed.name, "", ["record"]):
            for row in page:
                record = unknown | parse_record(str(row["id"]), row["record"])
                del record["predicted_labels"]
                found[record["id"]] = stored_row(record)
        return found

    def read_records(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        view = self._view()
        rows = view.find_all(ids)
        for id_, row in zip(ids, rows, strict=True):
            if row is None:
                raise unknown_id(id_, view.near_ids(id_))
        found = view.read("record", np.array(rows, np.int64))
        return [dict.fromkeys(COLUMNS) | one for one in found]

    def file(self, id_: str) -> Path:
        (row,) = self.read_records([id_])
        return self.manifest.file(row["source"], row["path"])

    def thumbnails(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return an empty picture for each record: a collection holds none."""
        return dict.fromkeys(ids, b"")

    def thumbnail(self, id_: str) -> bytes:
        """Return an empty picture."""
        return b""

    def verify(self) -> tuple[Problem, ...]:
        """Count the records of all collections.

        Raises:
            ArchiveError: The server cannot be used.
        """
        counts = {name: self.link.count(name, now=True) for name in self.pushed.collections}
        return tuple(
            Problem(name, f"holds {found} records instead of {self.count}")
            for name, found in counts.items()
            if found != self.count
        )

    def close(self) -> None:
        self.link.close()

    # As a backend

    @property
    def archive(self) -> MilvusBackend:
        return self

    @property
    def mark(self) -> str:
        return self.pushed.mark

    @property
    def records(self) -> Records:
        """Raise a usage error: a collection may be too large."""
        raise UsageError(_TOO_LARGE)

    @property
    def vectors(self) -> Vectors:
        """Raise a usage error: a collection may be too large."""
        raise UsageError(_TOO_LARGE)

    @property
    def remote(self) -> bool:
        return True

    def view(self) -> MilvusView:
        """Return the collection as a search sees it that starts now, also after another push."""
        head = ManifestStore(self.link).head(now=False)
        if head is None or head["revision"] != self.pushed.revision:
            with self._following:
                self.pushed = read_pushed(self.link, complete=True)
        return self._view()

    def ann_facts(self) -> AnnFacts | None:
        return self.pushed.ann

    def build_ann(self) -> AnnFacts:
        """Raise a usage error: the index of a collection is chosen when it is pushed."""
        raise UsageError("the index of a collection is chosen with 'landcue archive push --index'")

    def fusion(self) -> Fusion | None:
        return self.pushed.fusion

    def measure_fusion(self) -> Fusion:
        """Return the weight of labels that was measured when the collection was pushed."""
        check_mode("fused", self.manifest)
        if self.pushed.fusion is None:
            raise UsageError("the weight of labels was not measured: push the archive again")
        return self.pushed.fusion

    def typical(self, mode: str, texts: Encoding | None = None) -> None:
        """Return nothing: a sample of nearest neighbors would cost the server many searches."""

    def summary(self) -> Summary:
        return self.pushed.summary

    def label_counts(self) -> list[dict[str, Any]]:
        pushed, counts = self.view().pushed, list[dict[str, Any]]()
        scored, count = pushed.manifest.label_names, functools.partial(self.link.count, pushed.name)
        for label in sorted(pushed.carried):
            where, predicted = carries(pushed.names.index(label)), 0
            if label in scored:
                predicted = count(f"scores[{scored.index(label)}] >= {LABEL_THRESHOLD}")
            fact = {"name": label, "annotated": count(f"known == true and {where}")}
            counts.append({**fact, "predicted": predicted, "records": count(where)})
        return counts

    def _view(self) -> MilvusView:
        return MilvusView(self.link, self.pushed, self.largest, self.outlines)


_TOO_LARGE = (
    "this operation reads every record, which a Milvus collection does not support: use the "
    "archive folder that was pushed"
)
