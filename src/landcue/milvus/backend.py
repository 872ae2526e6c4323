"""A collection as a storage and as a search backend: the answers are those of a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
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
from landcue.milvus.link import LARGEST, Address, Link, both, quoted
from landcue.milvus.manifest import read_head, read_pushed
from landcue.milvus.view import MilvusView
from landcue.models.load import find_model
from landcue.search.exact import AnnFacts
from landcue.search.fusion import Fusion
from landcue.search.pages import Rows
from landcue.search.plan import check_mode
from landcue.search.records import Records, Summary
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
        self._limits = largest, outlines
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
        for view, rows in self._all():
            values = view.read_records(rows)
            for name in vectors:
                for value, vector in zip(values, view.read_vectors(name, rows), strict=True):
                    value[name] = vector
            parts.append(pa.Table.from_pylist(values, schema))
        return to_columns(pa.concat_tables(parts), self.manifest)

    def label_scores(self) -> FloatArray:
        return np.concatenate([view.read_vectors("scores", rows) for view, rows in self._all()])

    def stored(self) -> dict[str, Stored]:
        """Return the metadata of all records by id, without sizes, times and digests of files."""
        unknown: dict[str, Any] = {"size": 0, "mtime_ns": 0, "content": ""}
        records = [one | unknown for view, rows in self._all() for one in view.read_records(rows)]
        for record in records:
            del record["predicted_labels"]
        return {record["id"]: stored_row(record) for record in records}

    def _all(self) -> Iterator[tuple[MilvusView, Rows]]:
        """Yield all records by ascending id, each time some rows of a view of their own."""
        for page in self.link.pages(self.pushed.name, "", ["record"]):
            view = self._view()
            yield view, view.rows(page)

    def read_records(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        view, found = self._view(), list[int]()
        for id_, row in zip(ids, view.find_all(ids), strict=True):
            if row is None:
                raise unknown_id(id_, view.near_ids(id_))
            found.append(row)
        return view.read_records(np.array(found, np.int64))

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
        """Count the records of all collections."""
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
        if read_head(self.link).get("revision") != self.pushed.revision:
            with self._following:
                self.pushed = read_pushed(self.link, complete=True)
        return self._view()

    def _view(self) -> MilvusView:
        return MilvusView(self.link, self.pushed, *self._limits)

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
        scored = pushed.manifest.label_names
        for label in pushed.carried:
            wheres = {"records": f"array_contains(labels, {quoted(label)})"}
            wheres["annotated"] = both("known == true", wheres["records"])
            if label in scored:
                wheres["predicted"] = f"scores[{scored.index(label)}] >= {LABEL_THRESHOLD}"
            found = {kind: self.link.count(pushed.name, where) for kind, where in wheres.items()}
            counts.append({"name": label, "predicted": 0} | found)
        return counts


_TOO_LARGE = (
    "this operation reads every record, which a Milvus collection does not support: use the "
    "archive folder that was pushed"
)
