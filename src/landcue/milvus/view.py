"""A collection as one search sees it, with the records that it has read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.codes.packing import code_width
from landcue.errors import UsageError
from landcue.milvus.link import Link, one_of, starts
from landcue.milvus.manifest import LABEL_SCALE, Pushed
from landcue.milvus.rows import parse_record
from landcue.milvus.selection import MilvusSelection
from landcue.search.backend import Facts
from landcue.search.exact import AnnFacts
from landcue.search.filters import Filter
from landcue.search.fusion import Fusion
from landcue.search.pages import Rows
from landcue.search.records import COLUMNS, Records
from landcue.search.vectors import cue_bits
from landcue.types import FloatArray

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
        annotated = self.annotated(row)
        return self.predicted_of(row) if annotated is None else annotated

    def annotated(self, row: int) -> tuple[str, ...] | None:
        labels = self.read_records(np.array([row]))[0]["labels"]
        return None if labels is None else tuple(labels)

    def predicted_of(self, row: int) -> tuple[str, ...]:
        return tuple(self.read_records(np.array([row]))[0]["predicted_labels"] or ())

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
