"""The records that one search reads from a collection, numbered in the order in which it met them.

A row is such a number and means nothing to another search. Elsewhere in LandCue rows are in the
order of ids; what sorts rows here looks at the ids themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import code_width
from landcue.errors import UsageError
from landcue.milvus.expressions import one_of, starts
from landcue.milvus.link import Link
from landcue.milvus.manifest import Pushed
from landcue.milvus.record_json import to_records
from landcue.search.records import Records

Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]

_KEPT = ("embedding", "code", "cue", "record")
_IDS_AT_ONCE = 1_000
_BYTES_AT_ONCE = 16 << 20


class RecordCache:
    """The records that one search returned, and their cached values.

    Attributes:
        link: To the server.
        pushed: The stored description of the collection.
        layout: Of the collections.
        ids: Of the rows.
    """

    def __init__(self, link: Link, pushed: Pushed) -> None:
        self.link, self.pushed, self.layout = link, pushed, pushed.layout
        self.ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._known: dict[str, dict[int, Any]] = {name: {} for name in _KEPT}

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, hits: Sequence[dict[str, Any]]) -> Rows:
        """Number the records of a response and cache their values."""
        found = np.empty(len(hits), np.int64)
        for i, hit in enumerate(hits):
            id_ = str(hit["id"])
            row = self._rows.get(id_)
            if row is None:
                row = self._rows[id_] = len(self.ids)
                self.ids.append(id_)
            found[i] = row
            for name, value in {**hit, **hit.get("entity", {})}.items():
                if name in self._known:
                    self._known[name][row] = value
        return found

    def ask(self, where: str, fields: Sequence[str]) -> Rows:
        """Return the rows that match an expression."""
        return self.rows(self.link.query(self.layout.name, where, fields))

    def count(self, where: str) -> int:
        """Count the records that match an expression."""
        return self.link.count(self.layout.name, where)

    def find(self, id_: str) -> int | None:
        """Return the row of an id, from the cache or the server; ``None`` if there is none."""
        if id_ not in self._rows:
            cue = ["cue"] if self.layout.n_labels else []
            self.ask(one_of("id", [id_]), ["embedding", "record", *cue])
        return self._rows.get(id_)

    def records(self, rows: Rows) -> Records:
        """Return the records of some rows, in that order."""
        chosen: list[int] = rows.tolist()
        texts = self._read("record", chosen)
        return to_records([self.ids[row] for row in chosen], texts, self.pushed.manifest)

    def width(self, kind: str) -> int:
        """Return how many values a vector has: ``embedding``, or packed bits ``code``, ``cue``."""
        if kind == "embedding":
            return self.layout.dim
        return code_width(self.layout.n_bits if kind == "code" else self.layout.n_labels)

    def vectors(self, kind: str, rows: Sequence[int]) -> npt.NDArray[Any]:
        """Return vectors of some rows, float32 or uint8 ``[m, width]``."""
        values, shape = self._read(kind, rows), (len(rows), self.width(kind))
        if kind == "embedding":
            return np.array(values, np.float32).reshape(shape)
        if kind == "cue":
            packed = b"".join(map(bytes.fromhex, values))
        else:
            packed = b"".join(v[0] if isinstance(v, list) else v for v in values)
        return np.frombuffer(packed, np.uint8).reshape(shape)

    def nearest(
        self, distances: Distances, rows: Rows, k: int | None = None
    ) -> tuple[Distances, Rows]:
        """Return the first k, or all, in the order (distance, id)."""
        ids = [self.ids[row] for row in rows.tolist()]
        pairs = list(zip(distances.tolist(), ids, strict=True))
        at = np.array(sorted(range(len(pairs)), key=pairs.__getitem__)[:k], np.int64)
        return distances[at], rows[at]

    def _read(self, kind: str, rows: Sequence[int]) -> list[Any]:
        known = self._known[kind]
        lacking = [row for row in dict.fromkeys(rows) if row not in known]
        step = _IDS_AT_ONCE
        if kind == "embedding":
            step = max(1, min(step, _BYTES_AT_ONCE // (4 * self.layout.dim)))
        name = self.layout.code if kind == "code" else self.layout.name
        for first in range(0, len(lacking), step):
            ids = [self.ids[row] for row in lacking[first : first + step]]
            self.rows(self.link.query(name, one_of("id", ids), ["id", kind]))
        gone = next((row for row in lacking if row not in known), None)
        if gone is not None:
            raise UsageError(
                f"the record {self.ids[gone]!r} was removed while it was read: search again"
            )
        return [known[row] for row in rows]


_NEAR = 1_000


class CollectionRecords:
    """Reads records as they are needed; a row is the number that a search gave to a record."""

    def __init__(self, cache: RecordCache) -> None:
        self._cache = cache

    def __len__(self) -> int:
        return self._cache.pushed.records

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return self._cache.ids[row]

    def find(self, id_: str) -> int | None:
        """Return the row of an id, or ``None``."""
        return self._cache.find(id_)

    def near_ids(self, id_: str, most: int = _NEAR) -> list[str]:
        """Return ids after an unknown one, ids with the same prefix, and the first ids."""
        link, name = self._cache.link, self._cache.layout.name
        wheres = (starts("id", id_), starts("id", id_[: 2 * len(id_) // 3]), 'id >= ""')
        found = [link.query(name, where, ["id"], limit=most) for where in wheres]
        return sorted({str(row["id"]) for rows in found for row in rows})

    def labels_of(self, row: int) -> tuple[str, ...]:
        """Return the annotated labels where there are any known, else the predicted ones."""
        return self._cache.records(np.array([row])).labels_of(0)

    def annotated(self, row: int) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` where there is no annotation."""
        return self._cache.records(np.array([row])).annotated(0)

    def predicted_of(self, row: int) -> tuple[str, ...]:
        """Return the predicted labels of a record."""
        return self._cache.records(np.array([row])).predicted_of(0)
