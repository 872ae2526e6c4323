"""A collection as a storage and as a search backend: the answers are those of a folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.archive import storage
from landcue.archive.archive import COLUMNS as EVALUATED
from landcue.archive.archive import Columns, to_columns, unknown_id
from landcue.archive.checksums import MODEL_FOLDER
from landcue.archive.manifest import Manifest
from landcue.archive.plan import Stored, stored_row
from landcue.archive.schema import LABEL_THRESHOLD
from landcue.codes.packing import code_width
from landcue.errors import UsageError
from landcue.milvus.link import LARGEST, Address, Link, both, one_of, quoted, starts
from landcue.milvus.manifest import LABEL_SCALE, Pushed, parse_record, read_head, read_pushed
from landcue.milvus.selection import MilvusSelection
from landcue.models.load import find_model
from landcue.search.backend import Facts
from landcue.search.exact import AnnFacts
from landcue.search.filters import Filter
from landcue.search.fusion import Fusion
from landcue.search.pages import Rows
from landcue.search.plan import check_mode
from landcue.search.records import COLUMNS, Records, Summary
from landcue.search.vectors import Vectors, cue_bits
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


_NEAR = 1_000
_IDS_AT_ONCE = 1_000
_BYTES_AT_ONCE = 16 << 20


class MilvusView:
    """A collection as one search sees it, with what it has read: a ``View`` and its records.

    Rows are numbered in the order in which the search met the records, and mean nothing to another
    search; what sorts rows looks at their ids.

    Attributes:
        pushed: The description of the collection when the search started.
    """

    def __init__(self, link: Link, pushed: Pushed, largest: int, outlines: int) -> None:
        self.link, self.pushed, self.largest, self.outlines = link, pushed, largest, outlines
        self.manifest, self.mark, self.records = pushed.manifest, pushed.mark, self
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._read: dict[str, dict[int, Any]] = {"record": {}, pushed.name: {}, pushed.code: {}}

    def __len__(self) -> int:
        return self.pushed.records

    def id(self, row: int) -> str:
        return self._ids[row]

    def find(self, id_: str) -> int | None:
        return self.find_all([id_])[0]

    def find_all(self, ids: Sequence[str]) -> list[int | None]:
        """Return the row of each id, or ``None``, with few queries."""
        missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._rows]
        for first in range(0, len(missing), _IDS_AT_ONCE):
            some = one_of("id", missing[first : first + _IDS_AT_ONCE])
            self.rows(self.link.query(self.pushed.name, some, ["id", "record"]))
        return [self._rows.get(id_) for id_ in ids]

    def near_ids(self, id_: str) -> list[str]:
        """Return ids after an unknown one, ids with the same prefix, and the first ids."""
        wheres = (starts("id", id_), starts("id", id_[: 2 * len(id_) // 3]), 'id >= ""')
        found = [self.link.query(self.pushed.name, one, ["id"], limit=_NEAR) for one in wheres]
        return sorted({str(row["id"]) for rows in found for row in rows})

    def labels_of(self, row: int) -> tuple[str, ...]:
        return self.table(np.array([row])).labels_of(0)

    def annotated(self, row: int) -> tuple[str, ...] | None:
        return self.table(np.array([row])).annotated(0)

    def predicted_of(self, row: int) -> tuple[str, ...]:
        return self.table(np.array([row])).predicted_of(0)

    def ann_facts(self) -> AnnFacts | None:
        return self.pushed.ann

    def fusion(self) -> Fusion | None:
        return self.pushed.fusion

    def select(self, where: Filter | None) -> MilvusSelection:
        return MilvusSelection(self, where)

    def read_facts(self, rows: Rows) -> Callable[[], list[Facts]]:
        """Read the facts of ``[m]`` rows now: a later push may change them."""
        facts = self.table(rows).facts(np.arange(len(rows)))
        return lambda: facts

    def table(self, rows: Rows) -> Records:
        """Return the records of some rows, in that order."""
        wide = pa.large_string()  # as in the sorted records of an archive folder
        stored = self.manifest.schema
        schema = pa.schema(
            pa.field(name, wide if name in ("id", "path") else stored.field(name).type)
            for name in COLUMNS
        )
        return Records(pa.Table.from_pylist(self.read_records(rows), schema).combine_chunks())

    def read_records(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the columns of some rows except their vectors."""
        return self._values("record", rows)

    def stored(self, rows: Rows) -> FloatArray:
        """Return the stored vectors of some rows: embeddings, followed by label probabilities."""
        values = np.array(self._values(self.pushed.name, rows), np.float32)
        return values.reshape(len(rows), self.pushed.width)

    def read_vectors(self, kind: str, rows: Rows) -> npt.NDArray[Any]:
        if kind == "code":
            values = self._values(self.pushed.code, rows)
            packed = b"".join(one[0] if isinstance(one, list) else one for one in values)
            width = code_width(self.manifest.n_bits)
            return np.frombuffer(packed, np.uint8).reshape(len(rows), width)
        stored, dim = self.stored(rows), self.manifest.dim
        if kind == "embedding":
            return np.ascontiguousarray(stored[:, :dim])
        scores = stored[:, dim:] / np.float32(LABEL_SCALE)
        return scores if kind == "scores" else cue_bits(scores)

    def rows(self, hits: Sequence[dict[str, Any]], kind: str = "record") -> Rows:
        """Number the records of a response, and keep what it holds of this kind."""
        rows, field = list[int](), _field(kind)
        for hit in hits:
            rows.append(self._rows.setdefault(str(hit["id"]), len(self._ids)))
            if rows[-1] == len(self._ids):
                self._ids.append(str(hit["id"]))
            if field in hit and rows[-1] not in self._read[kind]:
                value = parse_record(str(hit["id"]), hit[field]) if field == kind else hit[field]
                self._read[kind][rows[-1]] = value
        return np.array(rows, np.int64)

    def _values(self, kind: str, rows: Rows) -> list[Any]:
        """Return the ``record`` of some rows, or their vectors in a collection of that name.

        Raises:
            UsageError: One was removed since the search met it.
        """
        known, chosen = self._read[kind], rows.tolist()
        lacking = [row for row in dict.fromkeys(chosen) if row not in known]
        name, field = (kind if kind != "record" else self.pushed.name), _field(kind)
        step = max(1, min(_IDS_AT_ONCE, _BYTES_AT_ONCE // (4 * self.pushed.width)))
        for first in range(0, len(lacking), step):
            where = one_of("id", [self._ids[row] for row in lacking[first : first + step]])
            self.rows(self.link.query(name, where, ["id", field]), kind)
        gone = next((row for row in lacking if row not in known), None)
        if gone is not None:
            raise UsageError(
                f"the record {self._ids[gone]!r} was removed while it was read: search again"
            )
        return [known[row] for row in chosen]


def _field(kind: str) -> str:
    return kind if kind == "record" else "vector"
