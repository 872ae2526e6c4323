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
from landcue.search.pages import Distances, Rows
from landcue.search.records import COLUMNS, Records

_NEAR = 1_000
_IDS_AT_ONCE = 1_000
_BYTES_AT_ONCE = 16 << 20


class MilvusView:
    """A collection as one search sees it, with what it has read: a ``View`` and its records.

    Rows are numbered in the order in which the search met the records, and mean nothing to another
    search; what sorts rows looks at their ids.

    Attributes:
        pushed: The description of the collection when the search started.
        ids: Ids of the rows.
    """

    def __init__(self, link: Link, pushed: Pushed, largest: int, outlines: int) -> None:
        self.link, self.pushed, self.largest, self.outlines = link, pushed, largest, outlines
        self.manifest, self.mark = self.pushed.manifest, self.pushed.mark
        self.ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._known: dict[str, dict[int, Any]] = {
            kind: {} for kind in ("embedding", "code", "cue", "record")
        }

    @property
    def records(self) -> MilvusView:
        return self

    def __len__(self) -> int:
        return self.pushed.records

    def id(self, row: int) -> str:
        return self.ids[row]

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
        labels = self.read("record", np.array([row]))[0].get("labels")
        return None if labels is None else tuple(labels)

    def predicted_of(self, row: int) -> tuple[str, ...]:
        return tuple(self.read("record", np.array([row]))[0].get("predicted_labels") or ())

    def ann_facts(self) -> AnnFacts | None:
        return self.pushed.ann

    def fusion(self) -> Fusion | None:
        return self.pushed.fusion

    def read_facts(self, rows: Rows) -> Callable[[], list[Facts]]:
        """Read the facts of ``[m]`` rows now: a later push may change them."""
        facts = self.table(rows).facts(np.arange(len(rows)))
        return lambda: facts

    def read_vectors(self, kind: str, rows: Rows) -> npt.NDArray[Any]:
        if kind in ("embedding", "scores", "joined"):
            joined = np.array(self.read("embedding", rows), np.float32)
            joined, dim = joined.reshape(len(rows), self.pushed.width), self.manifest.dim
            joined[:, dim:] /= np.float32(LABEL_SCALE)
            parts = {"embedding": joined[:, :dim], "scores": joined[:, dim:], "joined": joined}
            return np.ascontiguousarray(parts[kind])
        values = self.read(kind, rows)
        bits = self.manifest.n_bits if kind == "code" else len(self.manifest.label_names)
        return np.frombuffer(b"".join(values), np.uint8).reshape(len(rows), code_width(bits))

    def select(self, where: Filter | None) -> MilvusSelection:
        return MilvusSelection(self, where)

    def table(self, rows: Rows) -> Records:
        """Return the records of some rows, in that order."""
        wide = pa.large_string()  # as in the sorted records of an archive folder
        stored = self.manifest.schema
        schema = pa.schema(
            pa.field(name, wide if name in ("id", "path") else stored.field(name).type)
            for name in COLUMNS
        )
        return Records(pa.Table.from_pylist(self.read("record", rows), schema).combine_chunks())

    def rows(self, hits: Sequence[dict[str, Any]]) -> Rows:
        """Number the records of a response, and keep the values in it."""
        found = np.empty(len(hits), np.int64)
        for at, hit in enumerate(hits):
            id_ = str(hit["id"])
            found[at] = row = self._rows.setdefault(id_, len(self.ids))
            if row == len(self.ids):
                self.ids.append(id_)
            for kind, known in self._known.items():
                if kind in hit and row not in known:
                    known[row] = _parsed(kind, id_, hit[kind])
        return found

    def nearest(
        self, distances: Distances, rows: Rows, k: int | None = None
    ) -> tuple[Distances, Rows]:
        """Return the first k, or all, in the order (distance, id)."""
        pairs = list(zip(distances.tolist(), (self.ids[row] for row in rows), strict=True))
        at = np.array(sorted(range(len(pairs)), key=pairs.__getitem__)[:k], np.int64)
        return distances[at], rows[at]

    def read(self, kind: str, rows: Rows) -> list[Any]:
        """Return ``embedding``, ``code``, ``cue`` or ``record`` of some rows.

        Raises:
            UsageError: One was removed since the search met it.
        """
        known, chosen = self._known[kind], rows.tolist()
        lacking = [row for row in dict.fromkeys(chosen) if row not in known]
        name, step = self.pushed.code if kind == "code" else self.pushed.name, _IDS_AT_ONCE
        if kind == "embedding":
            step = max(1, min(step, _BYTES_AT_ONCE // (4 * self.pushed.width)))
        for first in range(0, len(lacking), step):
            ids = [self.ids[row] for row in lacking[first : first + step]]
            self.rows(self.link.query(name, one_of("id", ids), ["id", kind]))
        gone = next((row for row in lacking if row not in known), None)
        if gone is not None:
            raise UsageError(
                f"the record {self.ids[gone]!r} was removed while it was read: search again"
            )
        return [known[row] for row in chosen]


def _parsed(kind: str, id_: str, value: Any) -> Any:
    if kind == "record":
        return parse_record(id_, value)
    if kind == "cue":
        return bytes.fromhex(value)
    return value[0] if kind == "code" and isinstance(value, list) else value
